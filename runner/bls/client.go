package bls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// maxBody is how long a request or an answer may be: twice the digits of the longest output that a
// transaction holds.
const maxBody = 1 << 20

// client speaks with an aggregation service.
type client struct {
	url  *url.URL
	http *http.Client
}

func newClient(address string, given *http.Client) (*client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		// The address may hold secrets.
		return nil, errors.New("bls: the address of the aggregation service is no URL of http or https")
	}
	c := http.Client{}
	if given != nil {
		c = *given
	}
	c.Transport = httputil.Guard(c.Transport)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{u, &c}, nil
}

// post sends a request and reads the answer, unless the status is 404. It returns the status.
func (c *client) post(ctx context.Context, verb string, in, out any) (status int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s at the aggregation service %s://%s: %w", verb, c.url.Scheme, c.url.Host, err)
		}
	}()
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	u := c.url.JoinPath("v1/tasks", verb)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("the address cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the address
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return 0, err
	case len(answer) > maxBody:
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxBody)
	case resp.StatusCode == http.StatusNotFound:
		return resp.StatusCode, nil
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadRequest:
		return 0, fmt.Errorf("status %d", resp.StatusCode)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return 0, fmt.Errorf("the answer cannot be read: %s", sanitize.Line(err.Error(), 200))
	}
	return resp.StatusCode, nil
}
