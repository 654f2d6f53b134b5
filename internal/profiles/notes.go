package profiles

import (
	"fmt"
	"strconv"
	"strings"
)

// notes collects warnings. It bounds their number, because untrusted input decides how many occur.
type notes struct {
	kept []string
	more int
}

const maxNotes = 16

func (n *notes) add(format string, args ...any) {
	if len(n.kept) == maxNotes {
		n.more++
		return
	}
	n.kept = append(n.kept, fmt.Sprintf(format, args...))
}

func (n *notes) list() []string {
	if n.more == 0 {
		return n.kept
	}
	return append(n.kept, fmt.Sprintf("%d more flaws like these were found", n.more))
}

// dropped counts the ids that are out of range, and keeps the first few for the message.
type dropped struct {
	count int
	first [4]uint64
}

func (d *dropped) add(id uint64) {
	if d.count < len(d.first) {
		d.first[d.count] = id
	}
	d.count++
}

func (d *dropped) text() string {
	ids := make([]string, min(d.count, len(d.first)))
	for i := range ids {
		ids[i] = strconv.FormatUint(d.first[i], 10)
	}
	switch {
	case d.count == 1:
		return "the profile of job " + ids[0] + " was dropped"
	case d.count > len(d.first):
		return fmt.Sprintf("the profiles of %d jobs (%s, ...) were dropped", d.count, strings.Join(ids, ", "))
	default:
		return fmt.Sprintf("the profiles of jobs %s were dropped", strings.Join(ids, ", "))
	}
}
