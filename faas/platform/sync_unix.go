//go:build unix

package platform

import (
	"errors"
	"os"
)

// syncDirectory makes renames in dir durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return storeError("%w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return storeError("%w", err)
	}
	return nil
}
