package devchain

import "sort"

// kind distinguishes what is stored.
type kind uint8

const (
	kindBalance     kind = iota // *big.Int, of an account
	kindNonce                   // uint64
	kindPaused                  // bool
	kindBlueprints              // uint64: how many
	kindBlueprint               // *blueprint
	kindRegistered              // bool, of a blueprint and an operator
	kindStaked                  // bool, of an account
	kindServices                // uint64: how many
	kindService                 // *service
	kindCalls                   // uint64: how many calls a service has had
	kindCall                    // *call
	kindAnswered                // bool, of a service, a call and an operator
	kindRewards                 // *big.Int, of an account
	kindBeat                    // *beat, of a service and an operator
	kindKeyProof                // bool
	kindOperatorKey             // bool, of a blueprint and a key
)

// key names one stored value.
type key struct {
	kind    kind
	a, b    uint64
	address Address
}

type version struct {
	block uint64
	value any
}

// store keeps every value with its history, so that the state at any block can be read and a
// reorganization only cuts the histories. Values are never changed in place.
type store struct {
	values  map[key][]version
	written map[uint64][]key // by block
}

func newStore() *store {
	return &store{values: map[key][]version{}, written: map[uint64][]key{}}
}

// at returns the value after a block, nil if there is none.
func (s *store) at(k key, block uint64) any {
	history := s.values[k]
	if n := len(history); n > 0 && history[n-1].block <= block { // mostly the latest is asked for
		return history[n-1].value
	}
	i := sort.Search(len(history), func(i int) bool { return history[i].block > block })
	if i == 0 {
		return nil
	}
	return history[i-1].value
}

// put stores a value as of a block, which is never before the last one stored.
func (s *store) put(k key, block uint64, value any) {
	history := s.values[k]
	if n := len(history); n > 0 && history[n-1].block == block {
		history[n-1].value = value
		return
	}
	s.values[k] = append(history, version{block, value})
	s.written[block] = append(s.written[block], k)
}

// cut forgets what was stored after a block.
func (s *store) cut(block, head uint64) {
	for at := head; at > block; at-- {
		for _, k := range s.written[at] {
			history := s.values[k]
			if n := len(history); n == 1 {
				delete(s.values, k)
			} else {
				s.values[k] = history[:n-1]
			}
		}
		delete(s.written, at)
	}
}
