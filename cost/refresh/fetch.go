package refresh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The limits on what is read from a price list. The largest list that is read whole has a few
// megabytes, and a product in it a few kilobytes.
const (
	maxPriceList  = 64 << 20
	maxPriceValue = 1 << 20
	maxPricePages = 50
	// maxPriceRows bounds how many products may match a price, and how many tiers a price may have.
	// Real lists have a few.
	maxPriceRows = 1000
)

// errRows reports that too many rows of a list match a price.
var errRows = errors.New("the price list has more for one price than any that is known")

// fetch opens a price list. Its error contains the status, never the content.
func (r *run) fetch(ctx context.Context, u string, header http.Header, most int64) (*priceReader, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	req.Header.Set("Accept", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		var wrapped *url.Error // tells the whole address, which may be long
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		hint := ""
		switch resp.StatusCode {
		case http.StatusNotFound:
			hint = ": is there such a region?"
		case http.StatusTooManyRequests:
			hint = ": try again later"
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest:
			hint = ": is the key valid, and its API enabled?"
			if header == nil {
				hint = ""
			}
		}
		return nil, fmt.Errorf("%s answers %d %s%s", req.URL.Host, resp.StatusCode, http.StatusText(resp.StatusCode), hint)
	}
	body := &boundedReader{r: resp.Body, total: most, value: maxPriceValue}
	return &priceReader{Decoder: json.NewDecoder(body), body: body, close: resp.Body.Close}, nil
}

// boundedReader fails if a list, or a single value in it, is too large.
type boundedReader struct {
	r            io.Reader
	total, value int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.total <= 0 || b.value <= 0 {
		return 0, errors.New("the price list is larger than any that is known")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.total, b.value)])
	b.total -= int64(n)
	b.value -= int64(n)
	return n, err
}

// priceReader walks through a price list without holding all of it.
type priceReader struct {
	*json.Decoder
	body  *boundedReader
	close func() error
}

// errRead ends a walk that has read all it wants.
var errRead = errors.New("read")

// object calls f for each member of an object. f must read or skip the value.
func (p *priceReader) object(f func(name string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.More() {
		p.body.value = maxPriceValue
		name, err := p.Token()
		if err != nil {
			return err
		}
		text, _ := name.(string) // a decoder has no other names
		if err := f(text); err != nil {
			return err
		}
	}
	return p.delim('}')
}

// array calls f for each element of an array. f must read the value.
func (p *priceReader) array(f func() error) error {
	if err := p.delim('['); err != nil {
		return err
	}
	for p.More() {
		if err := f(); err != nil {
			return err
		}
	}
	return p.delim(']')
}

func (p *priceReader) delim(want json.Delim) error {
	p.body.value = maxPriceValue
	token, err := p.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("the price list is of an unknown shape: %v stands where %v was expected", brief(token), want)
	}
	return nil
}

// brief quotes untrusted text if it is short. It shows no part of a longer text, which could
// contain a part of the key.
func brief(token json.Token) string {
	text := fmt.Sprint(token)
	if len(text) > 60 {
		return fmt.Sprintf("a text of %d bytes", len(text))
	}
	return fmt.Sprintf("%q", text)
}

// read decodes the next value.
func (p *priceReader) read(v any) error {
	p.body.value = maxPriceValue
	return p.Decode(v)
}

// skip passes over the next value, however large it is.
func (p *priceReader) skip() error {
	const deepest = 100
	for depth := 0; depth <= deepest; {
		p.body.value = maxPriceValue
		token, err := p.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
	return errors.New("the price list is nested deeper than any that is known")
}

// regionName refuses anything but the name of a region, because it becomes part of a URL.
func regionName(region string) error {
	for _, r := range region {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') {
			return faas.Errorf(faas.ErrInvalidArgument, "", "", "region %q is none that the provider's list could have", region)
		}
	}
	if region == "" || strings.Trim(region, "-") != region {
		return faas.Errorf(faas.ErrInvalidArgument, "", "", "region %q is none that the provider's list could have", region)
	}
	return nil
}
