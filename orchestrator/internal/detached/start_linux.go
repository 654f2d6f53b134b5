package detached

import (
	"errors"
	"os"
	"strconv"
	"strings"
)

var errEnded = errors.New("the process has ended")

// startOf returns when a process was started: clock ticks since the system's start, and the id of
// that start. A zombie has ended.
func startOf(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The second field is the program's name in brackets, and may contain anything.
	_, rest, ok := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), " ")
	fields := strings.Fields(rest)
	const state, start = 0, 19 // fields 3 and 22 of proc(5)
	if !ok || len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return "", errEnded
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return fields[start] + "@" + strings.TrimSpace(string(boot)), nil
}
