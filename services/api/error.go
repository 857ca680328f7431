package api

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/danielgtaylor/huma/v2"
)

// A Kind says what sort of error it is, so that a client can act on it. Each kind has one HTTP status.
type Kind string

// The kinds.
const (
	BadExpression   Kind = "bad_expression"
	BadRequest      Kind = "bad_request"
	BadConfig       Kind = "bad_config"
	BadFirmware     Kind = "bad_firmware"
	Unauthenticated Kind = "unauthenticated"
	Forbidden       Kind = "forbidden"
	NotFound        Kind = "not_found"
	WrongMethod     Kind = "wrong_method"
	Conflict        Kind = "conflict"
	Changed         Kind = "changed"
	NoRing          Kind = "no_ring"
	NoStorage       Kind = "no_storage"
	NoPorts         Kind = "no_ports"
	TooManyCaptures Kind = "too_many_captures"
	TooManyLogins   Kind = "too_many_logins"
	TooLarge        Kind = "too_large"
	BadRange        Kind = "bad_range"
	StorageFull     Kind = "storage_full"
	Unavailable     Kind = "unavailable"
	NotSupported    Kind = "not_supported"
	Internal        Kind = "internal"
)

var statuses = map[Kind]int{
	BadExpression:   http.StatusBadRequest,
	BadRequest:      http.StatusBadRequest,
	BadConfig:       http.StatusBadRequest,
	BadFirmware:     http.StatusBadRequest,
	Unauthenticated: http.StatusUnauthorized,
	Forbidden:       http.StatusForbidden,
	NotFound:        http.StatusNotFound,
	WrongMethod:     http.StatusMethodNotAllowed,
	Conflict:        http.StatusConflict,
	Changed:         http.StatusPreconditionFailed,
	NoRing:          http.StatusConflict,
	NoStorage:       http.StatusConflict,
	NoPorts:         http.StatusConflict,
	TooManyCaptures: http.StatusTooManyRequests,
	TooManyLogins:   http.StatusTooManyRequests,
	TooLarge:        http.StatusRequestEntityTooLarge,
	BadRange:        http.StatusRequestedRangeNotSatisfiable,
	StorageFull:     http.StatusInsufficientStorage,
	Unavailable:     http.StatusServiceUnavailable,
	NotSupported:    http.StatusNotImplemented,
	Internal:        http.StatusInternalServerError,
}

// An Error is what crosses a socket. Text is for a person and says what to do. Pos and Len are 0-based bytes of the expression
// that the error is about.
type Error struct {
	Text     string   `json:"error"`
	Kind     Kind     `json:"kind"`
	Pos      int      `json:"pos"`
	Len      int      `json:"len"`
	Expected []string `json:"expected"`
}

// Errorf returns an error of a kind, whose text is formatted as by fmt.Sprintf.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// Error returns Text.
func (e *Error) Error() string { return e.Text }

// GetStatus returns the HTTP status of the error's kind.
func (e *Error) GetStatus() int {
	if s, ok := statuses[e.Kind]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// listed returns a copy whose Expected is a list, if an empty one: several requests may be answered with one error.
func (e *Error) listed() *Error {
	c := *e
	if c.Expected == nil {
		c.Expected = []string{}
	}
	return &c
}

// kindOf returns the kind for a status that was not made from a kind.
func kindOf(status int) Kind {
	switch status {
	case http.StatusNotFound:
		return NotFound
	case http.StatusMethodNotAllowed:
		return WrongMethod
	case http.StatusRequestEntityTooLarge:
		return TooLarge
	case http.StatusUnauthorized:
		return Unauthenticated
	}
	if status/100 == 4 {
		return BadRequest
	}
	return Internal
}

// An expressionError says what is wrong with an expression, and where, as Error has it: those of package filter do.
type expressionError interface {
	error
	Expression() (text string, pos, len int, expected []string)
}

// ErrorOf returns err as an *Error: itself where it is one, what it says of an expression, else an internal error with err's text.
func ErrorOf(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var x expressionError
	if errors.As(err, &x) {
		e = &Error{Kind: BadExpression}
		e.Text, e.Pos, e.Len, e.Expected = x.Expression()
		return e
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &Error{Text: err.Error() + ": make room on the disk that has Galvo's state", Kind: StorageFull}
	}
	return &Error{Text: err.Error(), Kind: Internal}
}

var _ huma.StatusError = (*Error)(nil)
