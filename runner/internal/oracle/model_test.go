package oracle

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/tangle-network/blueprint-serverless/internal/devchain"
)

// history does to a world what happens to a service, and returns what was seen of it.
func history(w *world) (seen []string) {
	submit := func(job uint8, inputs string) {
		w.call(0, "submitJob(uint64,uint8,bytes)", uint64(0), job, []byte(inputs))
	}
	result := func(account int, call uint64, output string) {
		w.call(account, "submitResult(uint64,uint64,bytes)", uint64(0), call, []byte(output))
	}
	// look asks everything that a runner asks, as every account, of every call.
	look := func(what string) {
		note := func(name string, account int, signature string, args ...any) {
			answer := w.ask(account, signature, args...)
			seen = append(seen, fmt.Sprintf("%s: %s %v as %d: %s", what, name, args, account, answer))
		}
		for _, account := range []int{1, 2, 3} {
			for call := range uint64(7) {
				note("submitResult", account, "submitResult(uint64,uint64,bytes)", uint64(0), call, []byte{})
				note("quoted", account, "getJobQuotedOperators(uint64,uint64)", uint64(0), call)
			}
			note("other service", account, "submitResult(uint64,uint64,bytes)", uint64(9), uint64(0), []byte{})
			note("operator", account, "isServiceOperator(uint64,address)", uint64(0), common.Address(devchain.Account(account)))
		}
		note("batch", 1, "submitResults(uint64,uint64[],bytes[])", uint64(0), []uint64{0, 5}, [][]byte{{1}, {2, 3}})
		note("uneven batch", 1, "submitResults(uint64,uint64[],bytes[])", uint64(0), []uint64{0, 5}, [][]byte{{1}})
		note("active", 0, "isServiceActive(uint64)", uint64(0))
		note("operators", 0, "getServiceOperators(uint64)", uint64(0))
		note("paused", 0, "paused()")
		note("services", 0, "serviceCount()")
		note("unknown", 0, "nosuch()")
	}
	look("empty")
	w.setJob(jobOfTwo, 2, false)
	w.setJob(jobAggregate, 0, true)
	submit(0, "plain")
	submit(jobOfTwo, "two results")
	submit(jobAggregate, "")
	submit(3, "a text that is longer than one word of the machine")
	w.quoted(0, 4, []byte("quoted"), 2)
	submit(7, "last job")
	look("six calls")
	result(1, 0, "done")
	result(2, 1, "first of two")
	result(2, 4, "quoted")
	look("three answers")
	late := pack(w.T, "submitResult(uint64,uint64,bytes)", uint64(0), uint64(0), []byte{})
	doomed := w.sendAnyway(2, &w.contract, nil, late)
	seen = append(seen, fmt.Sprint("doomed: ", doomed.Status, " ", len(doomed.Logs)))
	w.call(1, "submitResults(uint64,uint64[],bytes[])", uint64(0), []uint64{1, 3}, [][]byte{[]byte("second"), {}})
	look("a batch")
	w.pause(true)
	look("paused")
	w.pause(false)
	w.leave(2, 0)
	look("one left")
	w.terminate(0)
	look("terminated")
	return append(seen, w.logs()...)
}

// TestModelIsWhatTheMachineDoes compares the model that all other tests use with the contract in
// Solidity on real nodes: every answer and every log.
func TestModelIsWhatTheMachineDoes(t *testing.T) {
	want := history(worlds["devchain"](t))
	for _, name := range []string{"go-ethereum", "anvil"} {
		t.Run(name, func(t *testing.T) {
			got := history(worlds[name](t))
			for i := range max(len(want), len(got)) {
				if a, b := at(want, i), at(got, i); a != b {
					t.Errorf("entry %d:\n%-12s %s\n%-12s %s", i, "devchain", a, name, b)
				}
			}
		})
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(want)))); n < 200 {
		t.Errorf("only %d different answers were compared", n)
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}
