package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"galvo/services/internal/filter"
)

// checkFilter prints the canonical form of an expression, or what is wrong with it.
func checkFilter(_ context.Context, args []string) error {
	f := flag.NewFlagSet("filter", flag.ContinueOnError)
	words := f.Bool("words", false, "print what the expression means in words, too")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return wrongUsage("it takes one expression, in quotes, and got %d arguments", len(rest))
	}
	compiled, err := filter.Compile(rest[0], &filter.Env{Syntax: true})
	if err != nil {
		return reportFilter(rest[0], err)
	}
	text := compiled.String() + "\n"
	if *words {
		text += compiled.Words() + "\n"
	}
	_, err = os.Stdout.WriteString(text)
	return err
}

// reportFilter prints what is wrong with an expression, and where.
func reportFilter(expression string, err error) error {
	var e *filter.Error
	if !errors.As(err, &e) {
		return err
	}
	fmt.Fprint(os.Stderr, point(expression, e.Message, e.Pos, e.Len, e.Expected))
	return errReported
}

// point shows an error under the part of the expression that it is about. Positions are 0-based bytes.
func point(expression, message string, pos, length int, expected []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nposition %d, length %d\n", message, pos, length)
	if len(expected) > 0 {
		fmt.Fprintf(&b, "expected: %s\n", strings.Join(expected, ", "))
	}
	pos = min(pos, len(expression))
	end := min(pos+length, len(expression))
	if !strings.ContainsAny(expression, "\r\n\t") && len(expression) < 160 {
		marks := strings.Repeat("^", max(1, utf8.RuneCountInString(expression[pos:end])))
		fmt.Fprintf(&b, "  %s\n  %s%s\n", expression, strings.Repeat(" ", utf8.RuneCountInString(expression[:pos])), marks)
	}
	return b.String()
}
