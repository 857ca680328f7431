package host

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"
)

// watch pokes wake whenever links or addresses change, until ctx is done. A subscription ends by itself on any error (ENOBUFS in a burst of
// messages); then there is something to look at, and a new one follows.
func watch(ctx context.Context, wake chan<- struct{}) {
	for ctx.Err() == nil {
		watchOnce(ctx, wake)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
		poke(wake)
	}
}

func watchOnce(ctx context.Context, wake chan<- struct{}) {
	done := make(chan struct{})
	links, addrs := make(chan netlink.LinkUpdate, 16), make(chan netlink.AddrUpdate, 16)
	linkErr := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: func(error) {}})
	addrErr := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: func(error) {}})
	defer drain(linkErr == nil, links)
	defer drain(addrErr == nil, addrs)
	defer close(done)
	if linkErr != nil || addrErr != nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-links:
			if !ok {
				return
			}
		case _, ok := <-addrs:
			if !ok {
				return
			}
		}
		poke(wake)
	}
}

// drain lets a subscription's goroutine end, which closes its channel.
func drain[T any](subscribed bool, c <-chan T) {
	for subscribed {
		_, subscribed = <-c
	}
}

// poke leaves a note in wake, which has room for one, unless one is there already.
func poke(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
