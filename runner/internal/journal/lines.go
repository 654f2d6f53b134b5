package journal

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// A journal is a file of lines. Each is one write and one sync:
//
//	<CRC-32C of the rest, 8 hex digits> <number of the line> <outputs> <JSON>
//
// The first line has the header. The others have an array of entries; each output is = and base64,
// for the entries that have one, in order. As a line that is torn is the last one, a line that does
// not check with a good one after it was damaged later.
const (
	suffix  = ".journal"
	format  = 1
	maxLine = 16 << 20 // bytes; a longer line is none of ours
	maxItem = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (k Key) file() string {
	return fmt.Sprintf("runner-%d-%s-%d-%s%s", k.ChainID, k.Contract, k.Service, k.Operator, suffix)
}

type header struct {
	Format   int     `json:"format"`
	Chain    uint64  `json:"chain"`
	Contract account `json:"contract"`
	Service  uint64  `json:"service"`
	Operator account `json:"operator"`
}

// entry is one change: exactly one member is set.
type entry struct {
	Call   *callEntry   `json:"call,omitempty"`
	Forget *idEntry     `json:"forget,omitempty"`
	Cursor *cursorEntry `json:"cursor,omitempty"`
	Tx     *txEntry     `json:"tx,omitempty"`
	Drop   *uint64      `json:"drop,omitempty"`
}

type idEntry struct {
	Call  uint64 `json:"id"`
	Block hash   `json:"hash"`
	Log   uint32 `json:"log"`
}

type callEntry struct {
	idEntry
	Number  uint64    `json:"block"`
	Job     uint8     `json:"job"`
	Phase   Phase     `json:"phase"`
	Runs    int       `json:"runs,omitempty"`
	Output  bool      `json:"output,omitempty"` // the line has one
	Outcome string    `json:"outcome,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Tx      *hash     `json:"tx,omitempty"`
	Result  uint64    `json:"result,omitempty"`
	At      time.Time `json:"at"`
}

type cursorEntry struct {
	Block uint64 `json:"block"`
	Hash  hash   `json:"hash"`
}

type txEntry struct {
	Nonce  uint64   `json:"nonce"`
	Raw    [][]byte `json:"raw"`
	Hashes []hash   `json:"hashes"`
	Label  string   `json:"label,omitempty"`
}

func idOf(id ID) *idEntry { return &idEntry{id.Call, hash(id.Block), id.Log} }

func (e *idEntry) id() ID { return ID{e.Call, tangle.Word(e.Block), e.Log} }

func callOf(r Record) *callEntry {
	e := &callEntry{idEntry: *idOf(r.ID), Number: r.Number, Job: r.Job, Phase: r.Phase, Runs: r.Runs,
		Output: r.Output != nil, Outcome: r.Outcome, Reason: r.Reason, Result: r.ResultBlock, At: r.At}
	if !r.Tx.IsZero() {
		e.Tx = new(hash(r.Tx))
	}
	return e
}

func (e *callEntry) record() Record {
	r := Record{ID: e.id(), Number: e.Number, Job: e.Job, Phase: e.Phase, Runs: e.Runs,
		Outcome: e.Outcome, Reason: e.Reason, ResultBlock: e.Result, At: e.At}
	if e.Tx != nil {
		r.Tx = tangle.Word(*e.Tx)
	}
	return r
}

func txOf(t Tx) *txEntry {
	e := &txEntry{Nonce: t.Nonce, Raw: t.Raw, Label: t.Label}
	for _, h := range t.Hashes {
		e.Hashes = append(e.Hashes, hash(h))
	}
	return e
}

func (e *txEntry) tx() Tx {
	t := Tx{Nonce: e.Nonce, Raw: e.Raw, Label: e.Label}
	for _, h := range e.Hashes {
		t.Hashes = append(t.Hashes, tangle.Word(h))
	}
	return t
}

// hash is a word, account an address, as JSON has them.
type (
	hash    tangle.Word
	account tangle.Address
)

func (h hash) MarshalText() ([]byte, error)    { return []byte(tangle.Word(h).String()), nil }
func (a account) MarshalText() ([]byte, error) { return []byte(tangle.Address(a).String()), nil }

func (h *hash) UnmarshalText(text []byte) error    { return unhex(h[:], text) }
func (a *account) UnmarshalText(text []byte) error { return unhex(a[:], text) }

func unhex(dst, text []byte) error {
	digits, ok := bytes.CutPrefix(text, []byte("0x"))
	if !ok || len(digits) != 2*len(dst) {
		return fmt.Errorf("not 0x and %d hexadecimal digits", 2*len(dst))
	}
	_, err := hex.Decode(dst, digits)
	return err
}

// item is an entry with its texts.
type item struct {
	entry  entry
	text   []byte // JSON
	output []byte // = and base64; nil: none
}

func itemOf(e entry, output []byte) (item, error) {
	it := item{entry: e}
	if output != nil {
		it.output = base64.RawStdEncoding.AppendEncode([]byte{'='}, output)
	}
	var err error
	if it.text, err = json.Marshal(e); err != nil {
		return it, err
	}
	if len(it.text) > maxItem {
		return it, fmt.Errorf("journal: an entry of %d bytes, and at most %d fit", len(it.text), maxItem)
	}
	return it, nil
}

// blob is the place of an output's text: in the line at first, then in the file.
type blob struct {
	at, size int64
	sum      uint32
}

func (b blob) from(line int64) blob {
	if b.size > 0 {
		b.at += line
	}
	return b
}

// line returns the line of the items, and where in it their outputs are.
func line(number uint64, items []item) (text []byte, places []blob) {
	size := 0
	for _, it := range items {
		size += len(it.text) + len(it.output) + 2
	}
	body := make([]byte, 0, size)
	start := len(seal(number, nil)) - 1
	for _, it := range items {
		var b blob
		if it.output != nil {
			b = blob{int64(start + len(body)), int64(len(it.output)), crc32.Checksum(it.output, castagnoli)}
			body = append(append(body, it.output...), ' ')
		}
		places = append(places, b)
	}
	for i, it := range items {
		body = append(append(body, "[,"[min(i, 1)]), it.text...)
	}
	return seal(number, append(body, ']')), places
}

// seal makes a line of a body.
func seal(number uint64, body []byte) []byte {
	text := make([]byte, 8, 32+len(body))
	text = append(text, ' ')
	text = strconv.AppendUint(text, number, 10)
	text = append(text, ' ')
	text = append(text, body...)
	hex.Encode(text[:8], binarySum(text[9:]))
	return append(text, '\n')
}

func binarySum(b []byte) []byte {
	sum := crc32.Checksum(b, castagnoli)
	return []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

func headerOf(k Key) []byte {
	b, err := json.Marshal(header{format, k.ChainID, account(k.Contract), k.Service, account(k.Operator)})
	if err != nil {
		panic(err) // numbers and digits
	}
	return b
}

// unseal returns a line's number and body, and where the body begins.
func unseal(text []byte) (number uint64, body []byte, start int, ok bool) {
	if len(text) < 9 || text[8] != ' ' {
		return 0, nil, 0, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], text[:8]); err != nil || !bytes.Equal(sum[:], binarySum(text[9:])) {
		return 0, nil, 0, false
	}
	digits, body, ok := bytes.Cut(text[9:], []byte{' '})
	number, err := strconv.ParseUint(string(digits), 10, 64)
	return number, body, len(text) - len(body), ok && err == nil
}

// parse returns the items of a body and the places of their outputs in the line.
func parse(body []byte, start int) (items []item, places []blob, err error) {
	var outputs []blob
	for len(body) > 0 && body[0] == '=' {
		text, rest, _ := bytes.Cut(body, []byte{' '})
		outputs = append(outputs, blob{int64(start), int64(len(text)), crc32.Checksum(text, castagnoli)})
		start += len(body) - len(rest)
		body = rest
	}
	var texts []json.RawMessage
	if err := json.Unmarshal(body, &texts); err != nil {
		return nil, nil, err
	}
	for _, text := range texts {
		it := item{text: text}
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&it.entry); err != nil {
			return nil, nil, err
		}
		if err := it.entry.check(); err != nil {
			return nil, nil, err
		}
		var b blob
		if it.entry.Call != nil && it.entry.Call.Output {
			if len(outputs) == 0 {
				return nil, nil, errors.New("an output is missing")
			}
			b, outputs = outputs[0], outputs[1:]
		}
		items, places = append(items, it), append(places, b)
	}
	if len(outputs) > 0 {
		return nil, nil, errors.New("an output belongs to nothing")
	}
	return items, places, nil
}

func (e *entry) check() error {
	n := 0
	for _, set := range []bool{e.Call != nil, e.Forget != nil, e.Cursor != nil, e.Tx != nil, e.Drop != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("an entry says %d things", n)
	}
	if c := e.Call; c != nil && (c.Phase < Started || c.Phase > Finished) {
		return fmt.Errorf("phase %d", c.Phase)
	}
	return nil
}

// end is where the whole lines of a file end.
type end struct {
	size  int64
	lines uint64
}

// load adds up the lines of a journal.
func load(r io.Reader, path string) (state, end, error) {
	var st state
	var whole end
	in := bufio.NewReaderSize(r, 64<<10)
	torn := false
	for at := int64(0); ; {
		text, n, err := readLine(in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return st, whole, fmt.Errorf("the journal %s: %w", path, err)
		}
		number, body, start, ok := unseal(text)
		switch {
		case !ok:
			torn = true // or damaged, if a good one follows
		case torn || number != whole.lines:
			return st, whole, damaged(path, whole.size, "a line is not what was written, and lines after it are")
		case number == 0:
			if st, err = parseHeader(body, path); err != nil {
				return st, whole, err
			}
		default:
			if err := st.addLine(body, start, at); err != nil {
				return st, whole, damaged(path, at, err.Error())
			}
		}
		at += n
		if ok {
			whole = end{at, whole.lines + 1}
		}
	}
	if whole.lines == 0 {
		return st, whole, damaged(path, 0, "it has no header")
	}
	st.since = keepFinished
	st.prune(time.Now())
	return st, whole, nil
}

func (s *state) addLine(body []byte, start int, at int64) error {
	items, places, err := parse(body, start)
	if err != nil {
		return err
	}
	for i, it := range items {
		s.apply(it, places[i].from(at))
	}
	return nil
}

func parseHeader(body []byte, path string) (state, error) {
	var h header
	if err := json.Unmarshal(body, &h); err != nil {
		return state{}, damaged(path, 0, err.Error())
	}
	if h.Format != format {
		return state{}, fmt.Errorf("the journal %s has format %d, and this program knows %d: use the version that wrote it",
			path, h.Format, format)
	}
	return newState(Key{h.Chain, tangle.Address(h.Contract), h.Service, tangle.Address(h.Operator)}), nil
}

// readLine returns the next line without its end, and its length with it. Of a line that is too
// long or has no end it returns nothing.
func readLine(in *bufio.Reader) (text []byte, n int64, err error) {
	for {
		part, err := in.ReadSlice('\n')
		n += int64(len(part))
		if n <= maxLine {
			text = append(text, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
		case err == io.EOF && n > 0:
			return nil, n, nil
		case err != nil:
			return nil, n, err
		case n > maxLine:
			return nil, n, nil
		default:
			return text[:len(text)-1], n, nil
		}
	}
}

func damaged(path string, at int64, problem string) error {
	return fmt.Errorf("the journal %s is damaged at byte %d (%s): it is left as it is; restore it, or move it away "+
		"to begin with the calls that are open on the chain", path, at, problem)
}
