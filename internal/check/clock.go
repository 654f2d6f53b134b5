package check

import (
	"net/http"
	"runtime"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Tolerance is how far a clock may differ from that of a cloud before the cloud refuses what is
// signed with its time. AWS and Microsoft Entra document five minutes, and Google only "a
// reasonable timeframe".
const Tolerance = 5 * time.Minute

// noticeable is how far a clock may differ before the check mentions it. It is far above the error
// that a slow answer and the whole seconds of HTTP can cause.
const noticeable = 30 * time.Second

// Clock compares this machine's clock with the date of an answer. The request was sent at sent, and
// its answer arrived at came. who names the owner of the other clock; provider is named in the
// error.
func Clock(provider, who string, header http.Header, sent, came time.Time) faas.Check {
	theirs, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return Skip("%s does not tell the time in its answers", who)
	}
	skew := Skew(theirs, sent, came)
	what := SkewWords(skew) + " of " + who
	switch ahead := skew.Abs(); {
	case ahead >= Tolerance:
		return Fail(faas.Errorf(faas.ErrInvalidArgument, "diagnose", provider, "the clock is %s", what), SetClock(),
			"this machine's clock is %s: requests signed with its time are refused from %v on", what, Tolerance)
	case ahead >= noticeable:
		return Warn(nil, SetClock(), "this machine's clock is %s", what)
	}
	return OK("within a few seconds of %s", who)
}

// Skew returns how far this clock is ahead of a time that is known in whole seconds and was read
// between sent and came. It is negative if this clock is behind. Within that uncertainty it returns
// the smallest skew.
func Skew(theirs, sent, came time.Time) time.Duration {
	switch earliest, latest := theirs, theirs.Add(time.Second); {
	case sent.After(latest):
		return sent.Sub(latest)
	case came.Before(earliest):
		return came.Sub(earliest)
	}
	return 0
}

// SkewWords describes a clock's skew, as in "2m10s ahead".
func SkewWords(skew time.Duration) string {
	if skew < 0 {
		return (-skew).Round(time.Second).String() + " behind that"
	}
	return skew.Round(time.Second).String() + " ahead of that"
}

// SetClock returns the command that sets this machine's clock.
func SetClock() string {
	switch runtime.GOOS {
	case "darwin":
		return "sudo sntp -sS time.apple.com"
	case "windows":
		return "w32tm /resync"
	}
	return "sudo timedatectl set-ntp true"
}
