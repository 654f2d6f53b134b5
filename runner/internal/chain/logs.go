package chain

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

const (
	defaultRange = 2000
	// maxLogBytes limits what one call of Logs returns: its caller holds all of it.
	maxLogBytes = 64 << 20
)

// Logs returns the logs of the blocks from..to, in order. It verifies, on the node that answered,
// that the node has block `to` with the hash `toHash` (zero: with any hash); if not: ErrNoBlock. It
// adapts the width of its queries to what the nodes allow, and returns only what is complete.
func (c *Chain) Logs(ctx context.Context, q LogQuery, from, to uint64, toHash Word) ([]Log, error) {
	var all []Log
	size := 0
	for from <= to {
		end := to
		if width := c.window.width(); end-from >= width {
			end = from + width - 1
		}
		// To ask for less is better than to ask again, if that may help.
		logs, err := c.logs(ctx, c.rpc.Once(), q, from, end, to, toHash)
		if err != nil && ctx.Err() == nil && c.window.shrink(from, end, err) {
			continue
		}
		if err != nil && !absent(err) {
			logs, err = c.logs(ctx, c.rpc, q, from, end, to, toHash)
		}
		if err != nil && ctx.Err() == nil && c.window.shrink(from, end, err) {
			continue
		}
		if err != nil {
			return nil, noBlock(err)
		}
		c.window.grow(from, end)
		for _, l := range logs {
			size += len(l.Data)
		}
		if size > maxLogBytes {
			return nil, &rpc.Error{Kind: rpc.ErrTooLarge,
				Err: fmt.Errorf("the logs up to block %d have more than %d bytes: read fewer blocks", end, maxLogBytes)}
		}
		all = append(all, logs...)
		if end == to {
			break
		}
		from = end + 1
	}
	return all, nil
}

// logs asks for the logs of the blocks from..end, of a node that has the block to.
func (c *Chain) logs(ctx context.Context, client *rpc.Client, q LogQuery, from, end, to uint64,
	toHash Word) (logs []Log, err error) {
	filter := c.filter(q)
	filter["fromBlock"], filter["toBlock"] = rpc.Quantity(from), rpc.Quantity(end)
	var last Block
	block := blockCall(to, &last)
	isBlock := block.Check
	block.Check = func(result []byte) error {
		if err := isBlock(result); err != nil {
			return err
		}
		if !toHash.IsZero() && last.Hash != toHash {
			return fmt.Errorf("%w: its block %d is another one", rpc.ErrAbsent, to)
		}
		return nil
	}
	_, _, err = client.Do(ctx, []rpc.Call{
		ask("eth_getLogs", func(result []byte) (err error) {
			logs, err = c.parse(result, q)
			for _, l := range logs {
				switch {
				case err != nil:
				case l.Block < from || l.Block > end:
					err = fmt.Errorf("a log of block %d, and asked was for %d to %d", l.Block, from, end)
				case l.Block == to && !toHash.IsZero() && l.BlockHash != toHash:
					err = rpc.ErrAbsent
				}
			}
			return err
		}, filter),
		block, // after the logs, so that a reorg between the two is seen
	})
	return logs, err
}

// LogsOfBlock returns the logs of exactly this block, ErrNoBlock if no node has it.
func (c *Chain) LogsOfBlock(ctx context.Context, q LogQuery, hash Word) ([]Log, error) {
	filter := c.filter(q)
	filter["blockHash"] = hash.String()
	var logs []Log
	// A node says in its own words that it does not have the block, or returns nothing at all, so the
	// block is asked for as well.
	_, _, err := c.rpc.Do(ctx, []rpc.Call{
		ask("eth_getBlockByHash", func(result []byte) error {
			b, err := parseBlock(result)
			if err == nil && b.Hash != hash {
				err = errors.New("another block")
			}
			return err
		}, hash.String(), false),
		ask("eth_getLogs", func(result []byte) (err error) {
			logs, err = c.parse(result, q)
			for _, l := range logs {
				if err == nil && l.BlockHash != hash {
					err = errors.New("a log of another block")
				}
			}
			return err
		}, filter),
	})
	if err != nil {
		return nil, noBlock(err)
	}
	return logs, nil
}

func (c *Chain) filter(q LogQuery) map[string]any {
	topics := make([]any, len(q.Topics))
	for i, alternatives := range q.Topics {
		switch len(alternatives) {
		case 0: // stays nil: any
		case 1:
			topics[i] = alternatives[0].String()
		default:
			texts := make([]string, len(alternatives))
			for j, topic := range alternatives {
				texts[j] = topic.String()
			}
			topics[i] = texts
		}
	}
	return map[string]any{"address": c.contract.String(), "topics": topics}
}

// parse decodes logs, sorts them, drops those that are there twice, and checks that they are what
// was asked for.
func (c *Chain) parse(result []byte, q LogQuery) ([]Log, error) {
	logs, err := parseLogs(result)
	if err != nil {
		return nil, err
	}
	for _, l := range logs {
		if l.Address != c.contract {
			return nil, errors.New("a log of another contract")
		}
		for i, alternatives := range q.Topics {
			if len(alternatives) > 0 && (i >= len(l.Topics) || !slices.Contains(alternatives, l.Topics[i])) {
				return nil, fmt.Errorf("a log whose topic %d was not asked for", i)
			}
		}
	}
	slices.SortStableFunc(logs, func(a, b Log) int {
		return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(a.Index, b.Index))
	})
	for i := 1; i < len(logs); i++ {
		if a, b := logs[i-1], logs[i]; a.Block == b.Block && a.BlockHash != b.BlockHash {
			return nil, fmt.Errorf("logs of two different blocks %d", a.Block)
		} else if a.Block == b.Block && a.Index == b.Index && !a.equal(b) {
			return nil, fmt.Errorf("two different logs %d of block %d", a.Index, a.Block)
		}
	}
	return slices.CompactFunc(logs, func(a, b Log) bool { return a.Block == b.Block && a.Index == b.Index }), nil
}

func (l Log) equal(other Log) bool {
	return l.Tx == other.Tx && slices.Equal(l.Topics, other.Topics) && bytes.Equal(l.Data, other.Data)
}

// window is how many blocks a query spans: what the nodes allow, as far as it is known.
type window struct {
	mu      sync.Mutex
	most    uint64 // configured
	now     uint64
	refused uint64 // the least that was refused; 0: none
	good    int    // queries since
}

// patience is how many queries must succeed before a width is tried that was refused.
const patience = 32

func (w *window) init(most uint64) {
	if most == 0 {
		most = defaultRange
	}
	w.most, w.now = most, most
}

func (w *window) width() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// shrink reports whether a query over fewer blocks may succeed where this one failed, and makes the
// next ones as wide.
func (w *window) shrink(from, end uint64, err error) bool {
	var failure *rpc.Error
	if from == end || !errors.As(err, &failure) {
		return false
	}
	var width uint64
	span := end - from + 1
	switch {
	case tooWide(err), failure.Status == http.StatusRequestEntityTooLarge:
		width = (span + 1) / 2
		if to, ok := suggested(err, from, end); ok {
			width = to - from + 1
		}
	case absent(err): // to wait helps, not to ask for less
		return false
	case failure.Kind == rpc.ErrTooLarge, failure.Kind == rpc.ErrMalformed, failure.Kind == rpc.ErrTimeout,
		failure.Kind == rpc.ErrUnreachable && !failure.Unsent():
		width = (span + 3) / 4 // such a node says nothing, and takes long to say it
	default:
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now = min(w.now, width); w.refused == 0 || span < w.refused {
		w.refused = span
	}
	w.good = 0
	return true
}

// grow takes note that a query succeeded. The width grows by an eighth up to what was refused, and
// beyond only now and then.
func (w *window) grow(from, end uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if end-from+1 < w.now {
		return // it says nothing about wider ones
	}
	w.good++
	if w.refused != 0 && w.good >= patience {
		w.good, w.refused = 0, w.refused*2
	}
	w.now = min(w.now+w.now/8+1, w.most)
	if w.refused != 0 {
		w.now = min(w.now, max(w.refused-1, 1))
	}
	if w.refused > w.most {
		w.refused = 0
	}
}

// tooWide reports whether a node said that the query is too wide.
func tooWide(err error) bool {
	found := false
	eachRPC(err, func(e *rpc.RPCError) {
		found = found || e.TooWide() || e.Code == codeInvalid && namesRange(e) && !e.Behind()
	})
	return found
}

// absent reports whether a node said that it does not have the blocks.
func absent(err error) bool {
	found := errors.Is(err, rpc.ErrAbsent)
	eachRPC(err, func(e *rpc.RPCError) { found = found || e.Behind() })
	return found
}

// codeInvalid is the code for wrong parameters, which some nodes use for a range.
const codeInvalid = -32602

var rangeWords = regexp.MustCompile(`(?i)\b(range|blocks)\b`)

func namesRange(e *rpc.RPCError) bool { return rangeWords.MatchString(e.Message) }

// rangeHint is how nodes say which range works.
var rangeHint = regexp.MustCompile(`\[\s*` + blockNumber + `\s*,\s*` + blockNumber + `\s*\]`)

const blockNumber = `(0x[0-9a-fA-F]{1,16}|[0-9]{1,19})`

// suggested returns the end of a range that a node said would work, if that is a part of the query
// and begins with it.
func suggested(err error, from, end uint64) (to uint64, ok bool) {
	eachRPC(err, func(e *rpc.RPCError) {
		m := rangeHint.FindStringSubmatch(e.Message)
		if m == nil || ok {
			return
		}
		first, err1 := strconv.ParseUint(m[1], 0, 64)
		last, err2 := strconv.ParseUint(m[2], 0, 64)
		if err1 == nil && err2 == nil && first == from && last >= from && last < end {
			to, ok = last, true
		}
	})
	return to, ok
}

// eachRPC calls f for the errors that nodes answered with.
func eachRPC(err error, f func(*rpc.RPCError)) {
	if e, ok := err.(*rpc.RPCError); ok {
		f(e)
		return
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		eachRPC(e.Unwrap(), f)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			eachRPC(inner, f)
		}
	}
}
