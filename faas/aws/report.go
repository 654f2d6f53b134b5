//go:build !faas_only || faas_aws

package aws

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// metricsOf reads Lambda's report of an invocation from the end of its log, in either format: the
// REPORT line of plain text, or the record "platform.report" of JSON. The log's tail is cut to 4
// KB; what it lacks stays zero.
func metricsOf(tail string) faas.Metrics {
	for tail != "" {
		line := tail
		if i := strings.LastIndexByte(tail, '\n'); i >= 0 {
			tail, line = tail[:i], tail[i+1:]
		} else {
			tail = ""
		}
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "REPORT "); ok {
			return textReport(rest)
		}
		if strings.HasPrefix(line, "{") && strings.Contains(line, `"platform.report"`) {
			if m, ok := jsonReport(line); ok {
				return m
			}
		}
	}
	return faas.Metrics{}
}

// ofCall adapts the metrics to a call that took total. An instance that is kept warm reports its
// start, which was long before, with the first call that it gets.
func ofCall(m faas.Metrics, total time.Duration) faas.Metrics {
	if m.Init > total {
		m.Init, m.ColdStart = 0, false
	}
	m.Total = total
	return m
}

// textReport reads "RequestId: ...\tDuration: 12.34 ms\tBilled Duration: 13 ms\t...". The fields
// may come in any order.
func textReport(line string) faas.Metrics {
	var m faas.Metrics
	for field := range strings.SplitSeq(line, "\t") {
		key, value, ok := strings.Cut(strings.TrimSpace(field), ": ")
		if !ok {
			continue
		}
		number, unit, _ := strings.Cut(value, " ")
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			continue
		}
		switch {
		case key == "Duration" && unit == "ms":
			m.Execution = milliseconds(n)
		case key == "Billed Duration" && unit == "ms":
			m.Billed = milliseconds(n)
		case key == "Init Duration" && unit == "ms":
			m.Init, m.ColdStart = milliseconds(n), true
		case key == "Max Memory Used" && unit == "MB":
			m.MemoryMB = megabytes(n)
		}
	}
	return m
}

func jsonReport(line string) (faas.Metrics, bool) {
	var record struct {
		Type   string `json:"type"`
		Record struct {
			Metrics struct {
				Duration  float64  `json:"durationMs"`
				Billed    float64  `json:"billedDurationMs"`
				Init      *float64 `json:"initDurationMs"`
				MaxMemory float64  `json:"maxMemoryUsedMB"`
			} `json:"metrics"`
		} `json:"record"`
	}
	if err := json.Unmarshal([]byte(line), &record); err != nil || record.Type != "platform.report" {
		return faas.Metrics{}, false
	}
	r := record.Record.Metrics
	m := faas.Metrics{Execution: milliseconds(r.Duration), Billed: milliseconds(r.Billed),
		MemoryMB: megabytes(r.MaxMemory)}
	if r.Init != nil {
		m.Init, m.ColdStart = milliseconds(*r.Init), true
	}
	return m, true
}

// milliseconds returns zero for a number that cannot be a duration.
func milliseconds(ms float64) time.Duration {
	if !(ms > 0 && ms < math.MaxInt64/1e7) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

func megabytes(mb float64) uint32 {
	if !(mb > 0 && mb < math.MaxUint32) {
		return 0
	}
	return uint32(mb)
}
