package txmgr

import (
	"bytes"
	"errors"
	"math/big"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/tx"
)

// work is what a nonce is used for.
type work struct {
	label  string
	to     tangle.Address
	data   []byte
	value  *big.Int
	gas    uint64
	filler bool // a transfer of nothing
	// ours says that somebody in this process wanted it, so that still tells whether it is wanted.
	ours bool
	over bool     // it failed, which whoever wanted it knows
	req  *request // who waits; nil: nobody
}

// waited reports whether somebody waits for it.
func (w *work) waited() bool { return w != nil && w.req != nil && !w.req.gone.Load() }

// finish ends the wait for it.
func (w *work) finish(receipt *chain.Receipt, err error) {
	if w == nil || w.req == nil {
		return
	}
	select {
	case w.req.end <- end{receipt, err}:
	default: // it has an end
	}
	w.req.release()
	w.req.gone.Store(true)
}

// version is one signed transaction.
type version struct {
	work     *work
	raw      []byte
	hash     tangle.Word
	tip, cap *big.Int
	told     bool // that it was sent
}

// entry is a nonce that was used. Any of its versions may be mined.
type entry struct {
	nonce    uint64
	work     *work // nil: vacant, unless mined or foreign
	versions []version

	inPool   bool      // some version may be in a pool
	accepted bool      // a node took the last version, or may have taken it
	problem  error     // why not
	spent    bool      // a node says that the nonce is used
	resend   time.Time // when it is to be sent again
	priced   time.Time // when the last version was made, or it became the first of those in flight
	pricedAt uint64    // the head at that time
	first    bool      // the one that was found to be the first of those in flight
	capped   bool      // it was told that the fees cannot be raised

	mined   *chain.Receipt // of one of the versions
	by      *work          // what was mined
	settled bool           // as deep as wanted
	counted bool           // told, and in the status
	foreign uint64         // the head when the nonce was found to be used by somebody else; 0: it is not

	missing   time.Time // since when no receipt is found although there should be one; zero: it is not
	missingAt uint64    // the head at that time
}

func (e *entry) last() *version {
	if len(e.versions) == 0 {
		return nil
	}
	return &e.versions[len(e.versions)-1]
}

// open means that it waits to be mined.
func (e *entry) open() bool { return e.work != nil && e.mined == nil && e.foreign == 0 }

// vacant means that its nonce is to be used by something else.
func (e *entry) vacant() bool { return e.work == nil && e.mined == nil && e.foreign == 0 }

// unclaimed means that an earlier process sent it, and nobody in this one has asked for it.
func (e *entry) unclaimed() bool { return e.open() && !e.work.ours && !e.work.filler }

// isOneOf reports whether a version has one of the hashes.
func (e *entry) isOneOf(hashes map[tangle.Word]bool) bool {
	return slices.ContainsFunc(e.versions, func(v version) bool { return hashes[v.hash] })
}

// stored is what the store keeps of an entry.
func (e *entry) stored() journal.Tx {
	t := journal.Tx{Nonce: e.nonce}
	for _, v := range e.versions {
		t.Raw, t.Hashes, t.Label = append(t.Raw, v.raw), append(t.Hashes, v.hash), v.work.label
	}
	return t
}

// load makes an entry of what the store kept.
func (m *Manager) load(stored journal.Tx) (*entry, error) {
	e := &entry{nonce: stored.Nonce, inPool: true, accepted: true}
	for _, raw := range stored.Raw {
		t, sender, hash, err := tx.Parse(raw)
		if err != nil {
			return nil, err
		}
		if sender != m.account || t.Nonce != stored.Nonce || t.ChainID != m.cfg.Chain.ID() {
			return nil, errors.New("it is of another account, chain or nonce")
		}
		w := e.work
		if w == nil || w.to != t.To || !bytes.Equal(w.data, t.Data) || w.value.Cmp(t.Value) != 0 {
			w = &work{label: stored.Label, to: t.To, data: t.Data, value: t.Value, gas: t.Gas}
			w.filler = t.To == m.account && len(t.Data) == 0 && t.Value.Sign() == 0
		}
		e.work = w
		e.versions = append(e.versions, version{work: w, raw: raw, hash: hash, tip: t.Tip, cap: t.Cap})
	}
	if e.work == nil {
		return nil, errors.New("it has no version")
	}
	return e, nil
}
