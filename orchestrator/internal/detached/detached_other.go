//go:build !linux && !darwin

package detached

// Start returns ErrUnsupported.
func Start(Config, func(Process) error) (Process, error) { return Process{}, ErrUnsupported }

// Alive reports false.
func (p Process) Alive() bool { return false }

func (p Process) signal(bool) error { return ErrUnsupported }
