//go:build !linux

package files

import "os"

// CanExecute reports whether dir exists.
func CanExecute(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}
