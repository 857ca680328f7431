// Command mkimage builds the images of appliances, and keeps the lock file of what they take from Debian. `make image` and `make kernel-update` call it.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"galvo/board"
	"galvo/firmware"
	"galvo/firmware/authenticode"
	"galvo/firmware/bundle"
	"galvo/firmware/debian"
	"galvo/firmware/lock"
	"galvo/webui"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "mkimage: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("mkimage", flag.ExitOnError)
	update := f.String("update", "", "make the lock `file` anew from what the archive has, and do nothing else")
	names := f.String("board", "", "`names` of boards, separated by blanks; empty is all")
	version := f.String("version", "", "firmware `version`, as 1.2.3 or 1.2.3-suffix")
	binary := f.String("galvo", "", "`path` of the binaries without the architecture, as build/galvo-")
	out := f.String("out", "build/image", "`folder` of the images, one folder a board")
	minimum := f.String("minimum", "0.0", "lowest `version` that a device takes once this one was confirmed")
	key := f.String("key", "", "`path` of the key of updates, without .key and .pub: the public one goes into the image, and the update is signed if the private one is there")
	signKey := f.String("sign-key", "", "private key `file` (PEM, RSA) for Secure Boot; empty leaves programs unsigned")
	signCert := f.String("sign-cert", "", "its certificate `file` (PEM)")
	page := f.String("page", "webui/app", "`folder` of the page's source, whose packages are listed with their licences")
	arguments := f.String("arguments", "", "more kernel `arguments`")
	f.Parse(args)
	if *update != "" {
		return updateLock(ctx, *update)
	}
	o := firmware.Options{Version: *version, Minimum: *minimum, Arguments: *arguments}
	var err error
	if o.NPM, err = firmware.ReadNPM(*page, webui.Bundle()); err != nil {
		return err
	}
	if err := addKey(&o, *key); err != nil {
		return err
	}
	if err := addSigner(&o, *signCert, *signKey); err != nil {
		return err
	}
	return build(ctx, strings.Fields(*names), o, *binary, *out)
}

// addKey reads the key of updates.
func addKey(o *firmware.Options, path string) error {
	if path == "" {
		return nil
	}
	public, err := os.ReadFile(path + ".pub")
	if err != nil {
		return err
	}
	if _, err := bundle.ParseKey(public); err != nil {
		return fmt.Errorf("%s.pub: %w", path, err)
	}
	o.Keys = []firmware.Key{{Name: filepath.Base(path) + ".pub", Text: public}}
	private, err := os.ReadFile(path + ".key")
	if os.IsNotExist(err) {
		slog.Warn("the private key is not here: sign the update where it is, with `galvo firmware build -key`", "key", path+".key")
		return nil
	}
	if err != nil {
		return err
	}
	k, err := bundle.ParsePrivateKey(bytes.TrimSpace(private), func() (string, error) {
		p, ok := os.LookupEnv(keyPasswordVariable)
		if !ok {
			return "", fmt.Errorf("%s.key has a password: give it in %s", path, keyPasswordVariable)
		}
		return p, nil
	})
	o.UpdateKey = &k
	return err
}

// addSigner reads the owner's key for Secure Boot.
func addSigner(o *firmware.Options, certificate, key string) error {
	if certificate == "" && key == "" {
		return nil
	}
	c, err := os.ReadFile(certificate)
	if err != nil {
		return fmt.Errorf("read the certificate for Secure Boot: %w", err)
	}
	k, err := os.ReadFile(key)
	if err != nil {
		return fmt.Errorf("read the key for Secure Boot: %w", err)
	}
	s, err := authenticode.Parse(c, k)
	if err != nil {
		return err
	}
	o.Sign = s.Sign
	return nil
}

// keyPasswordVariable is the environment variable with the password of a private key.
const keyPasswordVariable = "GALVO_KEY_PASSWORD"

// build builds the images of the named boards and prints their sizes.
func build(ctx context.Context, names []string, o firmware.Options, binary, out string) error {
	if len(names) == 0 {
		names = board.Names()
	}
	var err error
	if o.Lock, err = lock.Current(); err != nil {
		return err
	}
	if o.Source, err = debian.FromEnvironment(o.Lock.Snapshot); err != nil {
		return err
	}
	for _, name := range names {
		if o.Board, err = board.Load(name); err != nil {
			return err
		}
		if o.Galvo, err = os.ReadFile(binary + o.Board.Architecture); err != nil {
			return fmt.Errorf("read our binary: %w", err)
		}
		r, err := firmware.Build(ctx, o)
		if err != nil {
			return err
		}
		m, err := r.Write(filepath.Join(out, name))
		if m != nil {
			report(m, o.Board)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// report prints the sizes of an image.
func report(m *firmware.Manifest, b *board.Board) {
	fmt.Printf("%s %s, kernel %s, %d modules\n", m.Board, m.Version, m.KernelRelease, m.Modules)
	for _, name := range slices.Sorted(maps.Keys(m.Bytes)) {
		budget := ""
		if name == firmware.DiskFile && b.ImageBudgetBytes > 0 {
			budget = fmt.Sprintf(" of at most %.0f MB", float64(b.ImageBudgetBytes)/1e6)
		}
		fmt.Printf("  %-14s %6.1f MB%s\n", name, float64(m.Bytes[name])/1e6, budget)
	}
}

// updateLock writes the lock of what the archive has now, and says what changed.
func updateLock(ctx context.Context, path string) error {
	s, err := debian.FromEnvironment("")
	if err != nil {
		return err
	}
	l, err := s.Update(ctx, lock.Wanted())
	if err != nil {
		return err
	}
	old, err := lock.Current()
	if err != nil {
		slog.Warn("the old lock file is not understood", "error", err)
		old = &lock.Lock{}
	}
	for _, p := range l.Packages {
		if was, err := old.Find(p.Want, p.Architecture); err != nil || was.SHA256 != p.SHA256 {
			fmt.Printf("%s for %s: %s (was %s)\n", p.Name, p.Architecture, p.Version, cmp.Or(was.Version, "not there"))
		}
	}
	return os.WriteFile(path, l.Encode(), 0o644)
}
