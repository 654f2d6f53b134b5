//go:build unix && !linux

package procstat

func zombie(int) bool { return false }
