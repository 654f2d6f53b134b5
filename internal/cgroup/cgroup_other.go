//go:build !linux

package cgroup

import "fmt"

// Root makes groups. This system has none.
type Root struct{}

// Open returns ErrUnavailable.
func Open(Config) (*Root, error) { return nil, fmt.Errorf("%w: only Linux has them", ErrUnavailable) }

// Clean does nothing.
func Clean(string) {}

// Support returns the zero value.
func (*Root) Support() Support { return Support{} }

// Left returns empty paths.
func (*Root) Left() (kill, remove string) { return "", "" }

// NewGroup returns ErrUnavailable.
func (*Root) NewGroup(Limits) (*Group, error) { return nil, ErrUnavailable }

// Close does nothing.
func (*Root) Close() error { return nil }

// Group is never made on this system.
type Group struct{}

// FD returns no descriptor.
func (*Group) FD() (int, bool) { return -1, false }

// Limiting returns false.
func (*Group) Limiting() bool { return false }

// Processes returns nothing.
func (*Group) Processes() []int { return nil }

// Kill does nothing.
func (*Group) Kill() {}

// OutOfMemory returns false.
func (*Group) OutOfMemory() bool { return false }

// Release does nothing.
func (*Group) Release() {}
