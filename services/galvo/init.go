package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"

	"galvo/board"
	"galvo/firmware/slot"
	"galvo/initramfs/boot"
	"galvo/initramfs/module"
	"galvo/initramfs/rescue"
	"galvo/services/api"
	"galvo/services/config"
	"galvo/webui/server"
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

// runRescue is the console for a person at the serial line of an appliance.
func runRescue(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("rescue", flag.ContinueOnError)
	state := f.String("state", defaultState(), "state `directory`")
	spare := f.String("copy", "", "`directory` with a copy of the small files of the state, for when its disk is gone")
	if err := noArguments(f, args); err != nil {
		return err
	}
	places := []string{*state}
	if *spare != "" {
		places = append(places, *spare)
	}
	return rescue.Run(ctx, rescue.Options{
		In: os.Stdin, Out: os.Stdout,
		Allowed: func() bool { return rescueAllowed(places) },
		Check: func(password string) (ok bool, err error) {
			for _, place := range places {
				if ok, err = server.CheckPassword(filepath.Join(place, "web"), password); err == nil {
					break
				}
			}
			return ok, err
		},
		Init: func(command string) (string, error) { return api.AskInit(ctx, api.InitPath, command) },
	})
}

// rescueAllowed reports whether the configuration, in the first of the places that has one, has the console switched on. One that cannot be read is what it
// is for.
func rescueAllowed(places []string) bool {
	for _, place := range places {
		text, err := os.ReadFile(filepath.Join(place, "config.toml"))
		if err != nil {
			continue
		}
		c, err := config.Parse(text)
		return err != nil || c.Device.RescueConsole
	}
	return true
}
