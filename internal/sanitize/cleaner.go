package sanitize

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Cleaner removes secrets from texts that others wrote, in every encoding in which they may have
// been sent: as they are, as in JSON, percent-encoded, and inside base64 of either alphabet, at any
// position and with or without padding. It also removes the beginning of a secret that was cut off.
// Its cost is linear in the text. The zero Cleaner knows no secrets. A Cleaner is safe for
// concurrent use.
//
// Clean a text before it is cut: the rest of a secret that was cut first would be shown.
type Cleaner struct {
	mu      sync.Mutex
	known   map[string]bool
	machine *machine // of known; nil when it has to be built
}

// NewCleaner returns a cleaner that knows the secrets.
func NewCleaner(secrets ...string) *Cleaner {
	c := &Cleaner{}
	c.Add(secrets...)
	return c
}

// Add adds secrets.
func (c *Cleaner) Add(secrets ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, secret := range secrets {
		if len(secret) < shortest || c.known[secret] {
			continue
		}
		if c.known == nil {
			c.known = map[string]bool{}
		}
		c.known[secret], c.machine = true, nil
	}
}

// Forget removes a secret from those that are hidden.
func (c *Cleaner) Forget(secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[secret] {
		delete(c.known, secret)
		c.machine = nil
	}
}

// longestText is how much of a text is examined, in bytes. It is far more than any error shows.
const longestText = 64 << 10

// Clean returns the text with [Hidden] in place of every secret. Of a text of more than 64 KiB, it
// returns the beginning.
func (c *Cleaner) Clean(text string) string {
	m := c.ready()
	text = text[:min(len(text), longestText)]
	if m == nil || text == "" {
		return text
	}
	marks := make(marks, len(text)+1)
	found := false
	for v := range views(text) {
		found = m.mark(v, marks) || found
	}
	if !found {
		return text
	}
	return marks.hide(text)
}

// marks counts, for every byte of a text, how many more marked stretches begin at it than end.
type marks []int32

// hide returns the text with [Hidden] in place of each marked stretch.
func (m marks) hide(text string) string {
	var b strings.Builder
	depth, from := int32(0), 0 // from is where the unmarked stretch begins that ends next
	for i, change := range m {
		before := depth
		depth += change
		switch {
		case before == 0 && depth > 0:
			b.WriteString(text[from:i] + Hidden)
		case before > 0 && depth == 0:
			from = i
		}
	}
	b.WriteString(text[from:])
	return b.String()
}

// Line is [Line] of the cleaned text.
func (c *Cleaner) Line(text string, limit int) string { return Line(c.Clean(text), limit) }

// Excerpt is [Excerpt] of the cleaned text.
func (c *Cleaner) Excerpt(body []byte) string {
	return Excerpt([]byte(c.Clean(string(body[:min(len(body), longestText)]))))
}

// Tail is [Tail] of the cleaned text.
func (c *Cleaner) Tail(log string, limit int) string {
	return Tail(c.Clean(log[max(0, len(log)-longestText):]), limit)
}

// ready returns the machine, or nil if there are no secrets.
func (c *Cleaner) ready() *machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.machine == nil && len(c.known) > 0 {
		c.machine = newMachine(c.known)
	}
	return c.machine
}

// The least number of bytes of a secret's beginning that is hidden: at a place where the text may
// have been cut, and anywhere else. Fewer may be a coincidence, such as the "https://" of another
// address.
const (
	shortestCut  = 8
	shortestPart = 16
)

// machine finds all secrets in one pass over a text. It is the automaton of Aho and Corasick: a
// state stands for the beginning of some secret, and is the longest with which the text read so far
// ends.
type machine struct {
	edges map[edge]int32
	nodes []node
}

type edge struct {
	from int32
	b    byte
}

type node struct {
	depth int32 // length of the beginning
	fail  int32 // the longest other beginning that this one ends with
	whole int32 // length of the longest whole secret that this one ends with; 0: none
}

func newMachine(secrets map[string]bool) *machine {
	m := &machine{edges: map[edge]int32{}, nodes: []node{{}}}
	for secret := range secrets {
		at := int32(0)
		for i := range len(secret) {
			next, ok := m.edges[edge{at, secret[i]}]
			if !ok {
				next = int32(len(m.nodes))
				m.edges[edge{at, secret[i]}] = next
				m.nodes = append(m.nodes, node{depth: int32(i + 1)})
			}
			at = next
		}
		m.nodes[at].whole = m.nodes[at].depth
	}
	m.link()
	return m
}

// link sets, in order of depth, the state to fall back to when the text does not continue a secret.
func (m *machine) link() {
	type child struct {
		edge
		to int32
	}
	byDepth := map[int32][]child{}
	for e, to := range m.edges {
		byDepth[m.nodes[to].depth] = append(byDepth[m.nodes[to].depth], child{e, to})
	}
	for depth := int32(1); len(byDepth[depth]) > 0; depth++ {
		for _, c := range byDepth[depth] {
			if c.from != 0 {
				m.nodes[c.to].fail = m.next(m.nodes[c.from].fail, c.b)
			}
			if n := &m.nodes[c.to]; n.whole == 0 {
				n.whole = m.nodes[n.fail].whole
			}
		}
	}
}

// next returns the state after one more byte.
func (m *machine) next(state int32, b byte) int32 {
	for {
		if to, ok := m.edges[edge{state, b}]; ok {
			return to
		}
		if state == 0 {
			return 0
		}
		state = m.nodes[state].fail
	}
}

// mark marks the parts of the view that show a secret, and reports whether there are any.
func (m *machine) mark(v view, marks marks) bool {
	found := false
	hide := func(from, to int) { // of the view
		found = true
		marks[v.start(from)]++
		marks[v.end(to-1)]--
	}
	state := int32(0)
	for i := range len(v.text) {
		depth := int(m.nodes[state].depth)
		state = m.next(state, v.text[i])
		// The beginning of a secret ends here unless a longer one began at the same place.
		if int(m.nodes[state].depth) <= depth && (depth >= shortestPart || depth >= shortestCut && !startsWord(v.text[i:])) {
			hide(i-depth, i)
		}
		if whole := int(m.nodes[state].whole); whole > 0 {
			hide(i+1-whole, i+1)
		}
	}
	if depth := int(m.nodes[state].depth); depth >= shortestCut {
		hide(len(v.text)-depth, len(v.text))
	}
	return found
}

// startsWord reports whether a text begins within a word. A text that continues so was not cut
// there.
func startsWord(text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}
