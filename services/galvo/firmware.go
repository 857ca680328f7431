package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aead.dev/minisign"
	"golang.org/x/term"

	"galvo/firmware/bundle"
)

// keyPasswordVariable is the environment variable with the password of a private key.
const keyPasswordVariable = "GALVO_KEY_PASSWORD"

// A firmwareTool is what `galvo firmware` can do.
type firmwareTool struct {
	name, synopsis, summary string
	run                     func(f *flag.FlagSet, args []string) error
}

func firmwareTools() []firmwareTool {
	return []firmwareTool{
		{"build", "[-key FILE] [-o FILE] IMAGE", "make an update of a unified kernel image (galvo.efi), signed if there is a key", firmwareBuild},
		{"sign", "-key FILE UPDATE", "sign an update, in place of the signature that it has", firmwareSign},
		{"verify", "[-key FILE.pub]... UPDATE", "say what an update is, and whether all of it is right", firmwareVerify},
		{"keygen", "[-plain] NAME", "make a key: NAME.key, which is secret, and NAME.pub, which goes into images", firmwareKeygen},
	}
}

func firmwareSynopsis() string {
	var names []string
	for _, t := range firmwareTools() {
		names = append(names, t.name)
	}
	return strings.Join(names, "|") + " ..."
}

// firmwareRole works with update bundles. It picks the tool; each has its own flags.
func firmwareRole(_ context.Context, args []string) error {
	list := func() string {
		var b strings.Builder
		for _, t := range firmwareTools() {
			fmt.Fprintf(&b, "  galvo firmware %s %s\n      %s\n", t.name, t.synopsis, t.summary)
		}
		return b.String()
	}
	if len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]) {
		fmt.Print(list())
		return nil
	}
	if len(args) == 0 {
		return wrongUsage("say what to do:\n%s", list())
	}
	i := slices.IndexFunc(firmwareTools(), func(t firmwareTool) bool { return t.name == args[0] })
	if i < 0 {
		return wrongUsage("there is no tool %q:\n%s", args[0], list())
	}
	t := firmwareTools()[i]
	f := flag.NewFlagSet("firmware", flag.ContinueOnError)
	f.Usage = func() {}
	err := t.run(f, args[1:])
	var wrong usageError
	if errors.As(err, &wrong) {
		return wrongUsage("%w: galvo firmware %s %s", err, t.name, t.synopsis)
	}
	return err
}

// oneFile parses the flags of a tool and returns its one argument.
func oneFile(f *flag.FlagSet, args []string) (string, error) {
	rest, err := parse(f, args)
	if err != nil {
		return "", err
	}
	if len(rest) != 1 {
		return "", wrongUsage("one file is needed")
	}
	return rest[0], nil
}

func firmwareBuild(f *flag.FlagSet, args []string) error {
	keyFile := f.String("key", "", "private key `file`; without one the update is not signed")
	out := f.String("o", "update.galvo", "`file` to write")
	path, err := oneFile(f, args)
	if err != nil {
		return err
	}
	image, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m, err := bundle.Describe(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var signature []byte
	if *keyFile != "" {
		key, err := readPrivateKey(*keyFile)
		if err != nil {
			return err
		}
		signature = bundle.Sign(m, key)
	}
	return writeBundle(*out, m, signature, image)
}

func writeBundle(path string, m bundle.Manifest, signature, image []byte) error {
	var b bytes.Buffer
	if err := bundle.Write(&b, m, signature, bytes.NewReader(image)); err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func firmwareSign(f *flag.FlagSet, args []string) error {
	keyFile := f.String("key", "", "private key `file`")
	path, err := oneFile(f, args)
	if err != nil {
		return err
	}
	if *keyFile == "" {
		return wrongUsage("name the private key with -key")
	}
	b, err := readBundle(path)
	if err != nil {
		return err
	}
	key, err := readPrivateKey(*keyFile)
	if err != nil {
		return err
	}
	image := make([]byte, b.Image.Size())
	if _, err := b.Image.ReadAt(image, 0); err != nil {
		return err
	}
	return writeBundle(path, b.Manifest, bundle.Sign(b.Manifest, key), image)
}

func readBundle(path string) (*bundle.Bundle, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, err := bundle.Read(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func firmwareVerify(f *flag.FlagSet, args []string) error {
	var files list
	f.Var(&files, "key", "public key `file`; may be given several times, one of them must fit")
	path, err := oneFile(f, args)
	if err != nil {
		return err
	}
	b, err := readBundle(path)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return wrongUsage("name the public key with -key")
	}
	var keys []minisign.PublicKey
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		k, err := bundle.ParseKey(text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, k)
	}
	if err := b.Verify(keys); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	m := b.Manifest
	fmt.Printf("%s for %s, build %s, %d bytes: signed and whole\nafter it a device takes no version below %s\n", m.Version, m.Board, m.Build, m.Bytes, m.Minimum)
	return nil
}

func firmwareKeygen(f *flag.FlagSet, args []string) error {
	plain := f.Bool("plain", false, "do not encrypt the private key with a password")
	name, err := oneFile(f, args)
	if err != nil {
		return err
	}
	secret, open := name+".key", name+".pub"
	for _, path := range []string{secret, open} {
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%s is there already: devices that trust it would take no update any more that another key signs; choose another name", path)
		}
	}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		return err
	}
	text, err := private.MarshalText()
	if !*plain {
		var password string
		if password, err = keyPassword(); err == nil {
			text, err = minisign.EncryptKey(password, private)
		}
	}
	if err != nil {
		return err
	}
	shown, err := public.MarshalText()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(secret, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.WriteFile(open, append(shown, '\n'), 0o644)
}

func readPrivateKey(path string) (minisign.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return minisign.PrivateKey{}, err
	}
	key, err := bundle.ParsePrivateKey(bytes.TrimSpace(text), keyPassword)
	if err != nil {
		return key, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// keyPassword returns the password of a private key, from the environment or a terminal.
func keyPassword() (string, error) {
	if p, ok := os.LookupEnv(keyPasswordVariable); ok {
		return p, nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", fmt.Errorf("the private key has a password: give it in %s", keyPasswordVariable)
	}
	fmt.Fprint(os.Stderr, "password of the key: ")
	p, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return string(p), err
}
