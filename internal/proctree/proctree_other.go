//go:build !linux

package proctree

import "context"

// Supported says whether this system tells which processes carry a mark.
const Supported = false

// Limit returns "".
func (m Mark) Limit() string { return "" }

// CarriedBy returns false: this system does not tell.
func (m Mark) CarriedBy(string) bool { return false }

// Put does nothing.
func (m Mark) Put(int) error { return ErrUnsupported }

// Exists returns false: this system does not tell.
func (m Mark) Exists() bool { return false }

// Terminate does nothing.
func (m Mark) Terminate(int) {}

// Await returns nil.
func (m Mark) Await(context.Context) error { return nil }

// Kill does nothing.
func (m Mark) Kill(context.Context) error { return nil }
