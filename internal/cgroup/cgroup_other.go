//go:build !linux

package cgroup

import "fmt"

// Root makes groups. There are none on this system.
type Root struct{}

// Open returns ErrUnavailable.
func Open(Config) (*Root, error) { return nil, fmt.Errorf("%w: only Linux has them", ErrUnavailable) }

// Clean does nothing.
func Clean(string) {}

// Support returns the zero value.
func (*Root) Support() Support { return Support{} }

// Left returns nothing.
func (*Root) Left() (kill, remove []string) { return nil, nil }

// NewGroup returns ErrUnavailable.
func (*Root) NewGroup(Limits) (*Group, error) { return nil, ErrUnavailable }

// Close does nothing.
func (*Root) Close() error { return nil }

// Group is never made here.
type Group struct{}

// FD returns no descriptor.
func (*Group) FD() (int, bool) { return -1, false }

// Join does nothing.
func (*Group) Join(int) {}

// Settle does nothing.
func (*Group) Settle() {}

// Limiting reports that nothing is limited.
func (*Group) Limiting() bool { return false }

// Kill does nothing.
func (*Group) Kill() {}

// OutOfMemory reports that nothing was killed for its memory.
func (*Group) OutOfMemory() bool { return false }

// Release does nothing.
func (*Group) Release() {}
