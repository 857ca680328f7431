package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"galvo/board"
	"galvo/firmware/slot"
	"galvo/initramfs/boot"
	"galvo/initramfs/module"
)

// runInit is PID 1 of the appliance. The kernel gives init the words of its command line that it does not know; they mean nothing here.
func runInit(ctx context.Context, _ []string) error {
	return boot.Run(ctx, boot.Options{Version: version, Console: os.Stdout, Slots: slot.Appliance(), Board: func() (*board.Board, error) { return board.Read(board.Path) }})
}

// modprobe is what the kernel calls for a module that it wants, as `modprobe -q -- NAME`.
func modprobe(_ context.Context, args []string) error {
	f := flag.NewFlagSet("modprobe", flag.ContinueOnError)
	quiet := f.Bool("q", false, "say nothing of a module that does not exist")
	names, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return wrongUsage("it takes the name or alias of a kernel module")
	}
	err = boot.Modprobe(names[:1]) // parameters of the module may follow, and are the author's defaults here
	if *quiet && errors.Is(err, module.ErrUnknown) {
		return errReported
	}
	return err
}
