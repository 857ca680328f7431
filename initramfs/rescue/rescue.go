// Package rescue is the console for a person at the serial line when the page does not answer: a shell with u-root's core commands and a few of its own.
//
// It runs as a process of its own, as root. It asks for the password of the user admin first, as the page does, and lets nobody in where the
// configuration switches it off. It reads nothing from a network.
package rescue

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Options are what the console runs with.
type Options struct {
	In      *os.File // the terminal, or anything in a test
	Out     io.Writer
	Allowed func() bool                         // whether the configuration has it switched on
	Check   func(password string) (bool, error) // whether it is admin's
	Init    func(command string) (string, error)
}

// wrongPause is how long a wrong password takes.
const wrongPause = 2 * time.Second

// Run serves until ctx is done or the terminal is gone.
func Run(ctx context.Context, o Options) error {
	in := bufio.NewReader(o.In)
	for ctx.Err() == nil {
		fmt.Fprint(o.Out, "\nPress Enter for the rescue console.\n")
		if _, err := in.ReadString('\n'); err != nil {
			return fmt.Errorf("read the terminal: %w", err)
		}
		if !o.Allowed() {
			fmt.Fprint(o.Out, "The rescue console is switched off: device.rescueConsole in the configuration.\n")
			continue
		}
		fmt.Fprint(o.Out, "Password of admin: ")
		password, err := o.password(in)
		fmt.Fprintln(o.Out)
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		ok, err := o.Check(password)
		switch {
		case err != nil:
			fmt.Fprintf(o.Out, "The password cannot be checked: %v\n", err)
		case !ok:
			time.Sleep(wrongPause)
			fmt.Fprint(o.Out, "Wrong.\n")
		default:
			fmt.Fprint(o.Out, "`help` lists the commands, `exit` ends.\n")
			if err := o.shell(ctx, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// password reads a line that the terminal does not show.
func (o Options) password(in *bufio.Reader) (string, error) {
	if fd := int(o.In.Fd()); term.IsTerminal(fd) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	}
	line, err := in.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// shell reads and runs lines until exit.
func (o Options) shell(ctx context.Context, in *bufio.Reader) error {
	commands := o.commands()
	runner, err := interp.New(
		interp.StdIO(nil, o.Out, o.Out),
		interp.Dir("/"),
		interp.Env(expand.ListEnviron("PATH=/bin:/sbin", "HOME=/", "TERM=linux")),
		interp.ExecHandlers(func(next interp.ExecHandlerFunc) interp.ExecHandlerFunc { return commands.handler(next) }),
	)
	if err != nil {
		return err
	}
	parser := syntax.NewParser()
	text := ""
	for ctx.Err() == nil {
		prompt := "galvo# "
		if text != "" {
			prompt = "> "
		}
		fmt.Fprint(o.Out, prompt)
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("read the terminal: %w", err)
		}
		text += line
		program, err := parser.Parse(strings.NewReader(text), "")
		if syntax.IsIncomplete(err) {
			continue
		}
		text = ""
		if err != nil {
			fmt.Fprintln(o.Out, err)
			continue
		}
		for _, statement := range program.Stmts {
			err := runner.Run(ctx, statement)
			if _, status := interp.IsExitStatus(err); err != nil && !status {
				fmt.Fprintln(o.Out, err)
			}
			if runner.Exited() {
				return nil
			}
		}
	}
	return nil
}
