// Command vm boots the image of a board in QEMU; `make vm` calls it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"galvo/board"
	"galvo/qemu"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	name := flag.String("board", "qemu-amd64", "`name` of the board")
	images := flag.String("images", "build/image", "`folder` of the images")
	dir := flag.String("dir", "build/vm", "`folder` of the disks, which keep what is on them")
	disk := flag.Int64("disk", 4<<30, "`bytes` of the disk")
	memory := flag.Int("memory", 1024, "`MiB` of memory")
	flag.Parse()
	b, err := board.Load(*name)
	if err == nil {
		fmt.Printf("The disk is %s; remove it to begin anew. Ctrl-C ends the machine.\n", filepath.Join(*dir, *name, "disk.img"))
		err = qemu.Run(ctx, b.Architecture, filepath.Join(*images, *name), filepath.Join(*dir, *name), *disk, *memory)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
		os.Exit(1)
	}
}
