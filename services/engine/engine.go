// Package engine is the process that receives frames: it wires workers, statistics and captures together and answers the API on a unix socket.
package engine
