package tangle

import (
	"context"
	"errors"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
	"github.com/tangle-network/blueprint-serverless/internal/rpc"
)

// The topics of the events, which are their hashes.
var (
	// BlueprintDefinitionRecorded(uint64,address,bytes), from the contract that manages the
	// blueprint.
	topicDefinition = knownWord("e0bc1e42405ffea94dcef03a915081f9674bc9eea38d46bad147b5cce7438e3e")
	// BlueprintSourcesRecorded(uint64,bytes32,BlueprintSource[]), from the Tangle contract.
	topicSources = knownWord("68554f1241fea0bb1dd1abad2eef6cb250c1de4ed6404474c046251ccc3ca64c")
)

const (
	defaultLogRange = 2000
	// leastLogRange is the shortest range to ask for: if a node refuses it too, the walk ends.
	leastLogRange = 8
	// maxProbes limits how many blocks are asked for their time.
	maxProbes = 64
)

// wanted is what the walk searches for. A zero hash means nothing. Payloads are kept until the
// walk ends.
type wanted struct {
	definitionHash, sourcesHash Word
	definition, sources         []byte // payloads with these hashes
}

func (w *wanted) done() bool {
	return (w.definitionHash.IsZero() || w.definition != nil) && (w.sourcesHash.IsZero() || w.sources != nil)
}

// walk searches for the events of a blueprint.
type walk struct {
	*reader
	want    wanted
	queries int    // remaining
	span    uint64 // blocks per query
	lowest  uint64 // all blocks from this one to the newest have been searched
	err     error  // why the walk ended early
}

// run searches the newest blocks first. Then it searches the blocks where the blueprint was
// created, if it can find them, and then backwards from the newest. It ends when everything is
// found or no queries are left.
func (w *walk) run(ctx context.Context) {
	head := w.blueprint.Block
	newest, oldest := w.floor(head), uint64(0)
	w.lowest = head + 1
	if !w.search(ctx, newest, head) {
		return
	}
	if s := w.blueprint.Status; s != nil && s.CreatedAt > 0 && newest > 0 {
		from, to, ok := w.created(ctx, head, s.CreatedAt)
		if ok && from < newest {
			oldest = from
			if !w.search(ctx, from, min(to, newest-1)) {
				return
			}
		}
	}
	for w.lowest > oldest {
		if !w.search(ctx, max(w.floor(w.lowest-1), oldest), w.lowest-1) {
			return
		}
	}
}

// miss explains why an event was not found.
func (w *walk) miss(event string) string {
	switch {
	case w.err != nil:
		return fmt.Sprintf("the event %s was not found before the search ended: %v", event, w.err)
	case w.lowest > 0 && w.queries == 0:
		return fmt.Sprintf("the event %s is not in the blocks from %d to %d, and no more were searched", event, w.lowest,
			w.blueprint.Block)
	default:
		return fmt.Sprintf("no event %s has the hash that the contract keeps", event)
	}
}

// floor returns the first block of the span that ends with end.
func (w *walk) floor(end uint64) uint64 {
	if end+1 <= w.span {
		return 0
	}
	return end + 1 - w.span
}

// search searches a range of blocks and reports whether the walk should continue. If the node
// refuses the range, search halves it.
func (w *walk) search(ctx context.Context, from, to uint64) bool {
	for step := to - from + 1; ; {
		if w.want.done() || w.queries == 0 {
			return false
		}
		w.queries--
		start := from
		if to-from >= step {
			start = to - step + 1
		}
		answers, err := w.do(ctx, []rpc.Call{{Method: "eth_getLogs", Params: []any{w.filter(start, to)}, Required: true}})
		if refusesRange(err) && step > leastLogRange {
			step /= 2
			w.span = step
			continue
		}
		if err == nil && answers[0].Err == nil {
			err = w.match(answers[0].Result)
		} else if err == nil {
			err = w.nodes[0].RPCError(answers[0].Err, "eth_getLogs")
		}
		if err != nil {
			w.err = err
			return false
		}
		if to+1 == w.lowest {
			w.lowest = start
		}
		if start == from {
			return !w.want.done()
		}
		to = start - 1
	}
}

// refusesRange reports whether a query over fewer blocks may succeed. Nodes have no common code
// for that.
func refusesRange(err error) bool {
	var e *rpc.Error
	return errors.As(err, &e) && (e.Kind == rpc.ErrRPC || e.Kind == rpc.ErrTooLarge || e.RefusesCall())
}

func (w *walk) filter(from, to uint64) map[string]any {
	var id Word
	copy(id[:], callData(0, w.blueprint.ID)[4:])
	var topics []string
	if !w.want.definitionHash.IsZero() && w.want.definition == nil {
		topics = append(topics, topicDefinition.String())
	}
	if !w.want.sourcesHash.IsZero() && w.want.sources == nil {
		topics = append(topics, topicSources.String())
	}
	return map[string]any{"fromBlock": rpc.Quantity(from), "toBlock": rpc.Quantity(to),
		"topics": []any{topics, id.String()}}
}

// match searches the result of eth_getLogs. Anyone may emit such an event, and a blueprint's
// sources change. So only the hash counts, and logs without it are skipped.
func (w *walk) match(result []byte) error {
	if jsonwalk.Kind(result) != "an array" {
		return fmt.Errorf("the result of eth_getLogs is %s, not an array", jsonwalk.Kind(result))
	}
	return jsonwalk.Elements(result, func(value []byte) error {
		if jsonwalk.Kind(value) != "an object" {
			return fmt.Errorf("a log is %s, not an object", jsonwalk.Kind(value))
		}
		var data []byte
		var topics [2]string
		var address string
		removed := false
		_ = jsonwalk.Members(value, func(name string, value []byte) error {
			switch name {
			case "address":
				address = jsonwalk.Unquote(value)
			case "removed":
				removed = string(value) == "true"
			case "data":
				data = value
			case "topics":
				if jsonwalk.Kind(value) != "an array" {
					return nil
				}
				i := 0
				_ = jsonwalk.Elements(value, func(topic []byte) error {
					if i < len(topics) {
						topics[i] = jsonwalk.Unquote(topic)
					}
					i++
					return nil
				})
			}
			return nil
		})
		if !removed {
			w.consider(address, topics, data)
		}
		return nil
	})
}

// consider keeps the payload of a log if it is wanted. data is a JSON string.
func (w *walk) consider(address string, topics [2]string, data []byte) {
	topic, err := parseWord(topics[0])
	if err != nil || len(data) < 2 {
		return
	}
	id, err := parseWord(topics[1])
	if err != nil || [wordSize]byte(callData(0, w.blueprint.ID)[4:]) != id {
		return
	}
	switch topic {
	case topicDefinition:
		if w.want.definition != nil || w.want.definitionHash.IsZero() {
			return
		}
		raw, err := rpc.DecodeHex(data[1 : len(data)-1])
		if err != nil {
			return
		}
		d := NewDecoder(raw)
		if !d.Head(0, 1, "encodedDefinition") {
			return
		}
		encoded := d.Blob(0, 0, "encodedDefinition")
		if d.err == nil && Keccak256(encoded) == w.want.definitionHash {
			w.want.definition = encoded
		}
	case topicSources:
		emitter, err := ParseAddress(address)
		if err != nil || emitter != w.blueprint.Contract || w.want.sources != nil || w.want.sourcesHash.IsZero() {
			return
		}
		if raw, err := rpc.DecodeHex(data[1 : len(data)-1]); err == nil && Keccak256(raw) == w.want.sourcesHash {
			w.want.sources = raw
		}
	}
}

func parseWord(s string) (w Word, err error) {
	raw, err := rpc.DecodeHex([]byte(s))
	if err == nil && len(raw) != len(w) {
		err = fmt.Errorf("%d bytes, not %d", len(raw), len(w))
	}
	copy(w[:], raw)
	return w, err
}

func knownWord(digits string) Word {
	w, err := parseWord("0x" + digits)
	if err != nil {
		panic(err)
	}
	return w
}
