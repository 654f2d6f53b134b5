package procstat

import (
	"os"
	"strconv"
	"strings"
)

// zombie reports whether a process has ended and nobody has reaped it.
func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}
