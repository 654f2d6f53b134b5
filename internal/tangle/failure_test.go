package tangle_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
)

// answering returns a node that sends the same body for every request.
func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// returning returns a node whose contract returns this result for every view.
func returning(t *testing.T, result string) http.Handler {
	data, err := hex.DecodeString(result)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	n.Blueprints[0] = &tangletest.Blueprint{Definition: data}
	return n
}

// changed returns the recorded answer with one word replaced.
func changed(t *testing.T, at int, word string) string {
	data := readRecorded(t, "gen-D")[0].Definition
	text := hex.EncodeToString(data)
	return text[:at*64] + strings.Repeat("0", 64-len(word)) + word + text[at*64+64:]
}

func TestEachFailureSaysWhatIsWrong(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := l.Addr().String()
	l.Close()
	_, refused := net.Dial("tcp", refusing) // the operating system's own words
	if refused == nil {
		t.Fatalf("something listens on %s", refusing)
	}
	for name, test := range map[string]struct {
		handler  http.Handler // nil if url is used
		url      string
		change   func(*tangle.Config)
		id       uint64
		kind     tangle.Kind
		code     faas.Code
		text     string // NODE stands for the node's address
		attempts int32  // 0 if not checked
	}{
		"no contract": {
			handler: newNode(t), change: func(c *tangle.Config) { a := addr(7); c.Contract = &a },
			kind: tangle.ErrNoContract, code: faas.ErrNotFound, attempts: 1,
			text: "no contract at address 0x1200000000000000000000000000000000000007 on chain id 4242",
		},
		"unknown blueprint": {
			handler: newNode(t), id: 77, kind: tangle.ErrBlueprintNotFound, code: faas.ErrNotFound, attempts: 1,
			text: "blueprint 77 is not found in contract 0x1200000000000000000000000000000000000001 on chain id 4242",
		},
		"unknown network": {
			handler: newNode(t), change: func(c *tangle.Config) { c.Contract = nil }, kind: tangle.ErrUnknownNetwork,
			code: faas.ErrInvalidArgument, attempts: 1,
			text: "node NODE is of chain id 4242, for which no contract is known: name its address",
		},
		"another chain": {
			handler: newNode(t), change: func(c *tangle.Config) { c.ChainID = 1 }, kind: tangle.ErrConfig,
			code: faas.ErrInvalidArgument,
			text: "node NODE is of chain id 4242, and 1 is wanted",
		},
		"unreachable": {
			url: "http://" + refusing, kind: tangle.ErrUnreachable, code: faas.ErrUnavailable,
			text: "node NODE is unreachable: " + strings.ReplaceAll(refused.Error(), refusing, "HOST"),
		},
		"connection closed": {
			handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			kind:    tangle.ErrUnreachable, code: faas.ErrUnavailable, attempts: 3, text: "node NODE is unreachable: EOF",
		},
		"unavailable": {
			handler: answering(503, "<html>"), kind: tangle.ErrHTTP, code: faas.ErrUnavailable, attempts: 3,
			text: "node NODE answered with HTTP 503 Service Unavailable",
		},
		"too many requests": {
			handler: answering(429, ""), kind: tangle.ErrHTTP, code: faas.ErrThrottled, attempts: 3,
			text: "node NODE answered with HTTP 429 Too Many Requests",
		},
		"unauthorized": {
			handler: answering(401, ""), kind: tangle.ErrHTTP, code: faas.ErrPermissionDenied, attempts: 1,
			text: "node NODE answered with HTTP 401 Unauthorized",
		},
		"not there": {
			handler: answering(404, "404 page not found"), kind: tangle.ErrHTTP, code: faas.ErrUnavailable, attempts: 1,
			text: "node NODE answered with HTTP 404 Not Found",
		},
		"redirected": {
			handler: http.RedirectHandler("http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect), kind: tangle.ErrHTTP,
			code: faas.ErrUnavailable, attempts: 1,
			text: "node NODE answered with HTTP 307 Temporary Redirect",
		},
		"HTTP error with a JSON-RPC error": {
			handler: answering(403, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"project suspended"}}`),
			kind:    tangle.ErrRPC, code: faas.ErrPermissionDenied, attempts: 1,
			text: "node NODE answered with HTTP 403 with JSON-RPC error -32001: project suspended",
		},
		"limit": {
			handler: answering(200,
				`{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"daily request count exceeded"}}`),
			kind: tangle.ErrRPC, code: faas.ErrThrottled, attempts: 3,
			text: "node NODE answered a batch with JSON-RPC error -32005: daily request count exceeded",
		},
		"another service": {
			handler: answering(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found\u001b[31m"}}`),
			kind:    tangle.ErrRPC, code: faas.ErrUnavailable,
			text: "node NODE answered eth_chainId with JSON-RPC error -32601: method not found?[31m",
		},
		"not JSON": {
			handler: answering(200, "<!DOCTYPE html>"), kind: tangle.ErrMalformed, code: faas.ErrUnavailable, attempts: 1,
			text: `node NODE: answer malformed: the response is not JSON: it begins with "<!DOCTYPE html>"`,
		},
		"empty": {
			handler: answering(200, ""), kind: tangle.ErrMalformed, code: faas.ErrUnavailable, attempts: 1,
			text: `node NODE: answer malformed: the response is empty`,
		},
		"nothing answered": {
			handler: answering(200, "[]"), kind: tangle.ErrMalformed, code: faas.ErrUnavailable, attempts: 1,
			text: `node NODE: answer malformed: id 1 of 8 is not answered`,
		},
		"answered twice": {
			handler: answering(200, `[{"id":1,"result":"0x1"},{"id":1,"result":"0x1"}]`), kind: tangle.ErrMalformed,
			code: faas.ErrUnavailable, attempts: 1,
			text: `node NODE: answer malformed: id 1 is answered twice`,
		},
		"too large": {
			handler: answering(200, strings.Repeat(" ", tangle.MaxResponse+1)), kind: tangle.ErrTooLarge,
			code: faas.ErrTooLarge, attempts: 1,
			text: "node NODE: the answer is larger than 4194304 bytes",
		},
		"timeout": {
			handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // otherwise the server does not notice that the client is gone
				<-r.Context().Done()
			}),
			change: func(c *tangle.Config) { c.Timeout = 50 * time.Millisecond },
			kind:   tangle.ErrTimeout, code: faas.ErrTimeout, attempts: 1, text: "node NODE did not answer within 50ms",
		},
		"answer cut off": {
			handler: returning(t, changed(t, 0, "20")[:64*64]), kind: tangle.ErrMalformed, code: faas.ErrUnavailable,
			attempts: 1,
			text: "contract 0x1200000000000000000000000000000000000001 on chain id 4242: answer to getBlueprintDefinition " +
				"malformed at jobs (byte 1760): 3 elements do not fit the answer's 2048 bytes",
		},
		"answer with a wrong offset": {
			handler: returning(t, changed(t, 14, "ffffffff")), kind: tangle.ErrMalformed, code: faas.ErrUnavailable, attempts: 1,
			text: "contract 0x1200000000000000000000000000000000000001 on chain id 4242: answer to getBlueprintDefinition " +
				"malformed at jobs (byte 448): the offset 4294967295 from byte 32 points beyond the answer's 3040 bytes",
		},
		"not hexadecimal": {
			handler: answering(200, `[`+strings.Join([]string{
				`{"id":1,"result":"0x1"}`, `{"id":2,"result":"0x1"}`, `{"id":3,"result":"zz"}`, `{"id":4,"result":"0x"}`,
				`{"id":5,"result":"0x"}`, `{"id":6,"result":"0x"}`, `{"id":7,"result":"0x"}`, `{"id":8,"result":"0x1"}`}, ",")+`]`),
			kind: tangle.ErrMalformed, code: faas.ErrUnavailable, attempts: 1,
			text: "node NODE: answer to getBlueprintDefinition malformed: not hexadecimal: it does not begin with 0x",
		},
		"unknown layout": {
			handler: returning(t, changed(t, 1, "260")), kind: tangle.ErrGeneration, code: faas.ErrUnsupported, attempts: 1,
			text: "contract 0x1200000000000000000000000000000000000001 on chain id 4242: its generation is not understood: " +
				"the definition's first offset is 0x260, and the known layouts have 0x220 (up to 0.10.8) or 0x240 (later)",
		},
		"facet missing": {
			handler: func() http.Handler { n := newNode(t); n.Blueprints[0].Definition = nil; return n }(),
			kind:    tangle.ErrGeneration, code: faas.ErrUnsupported, attempts: 1,
			text: "contract 0x1200000000000000000000000000000000000001 on chain id 4242 has no getBlueprintDefinition: its " +
				"generation is not understood",
		},
		"no URL": {url: "-", change: func(c *tangle.Config) { c.URLs = nil }, kind: tangle.ErrConfig,
			code: faas.ErrInvalidArgument, text: "no RPC URL is given"},
		"websocket": {
			url: "wss://key:secret@node.example", kind: tangle.ErrConfig, code: faas.ErrInvalidArgument,
			text: "RPC URL 1 of 1 has the scheme wss, and only http and https are spoken: most nodes serve both, at the " +
				"same host",
		},
		"no URL at all": {
			url: "http://user:secret@[::1", kind: tangle.ErrConfig, code: faas.ErrInvalidArgument,
			text: "RPC URL 1 of 1 cannot be parsed: it must be like http://localhost:9944",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var attempts atomic.Int32
			url := test.url
			if test.handler != nil {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					attempts.Add(1)
					test.handler.ServeHTTP(w, r)
				}))
				defer server.Close()
				url = server.URL
			}
			cfg := tangle.Config{URLs: []string{url}, Contract: &contract}
			if test.change != nil {
				test.change(&cfg)
			}
			b, err := tangle.Read(context.Background(), cfg, test.id)
			if err == nil {
				t.Fatalf("got %+v", b)
			}
			host := strings.TrimPrefix(url, "http://")
			got := strings.ReplaceAll(strings.ReplaceAll(err.Error(), "NODE", url), url, "NODE")
			if got = strings.ReplaceAll(got, host, "HOST"); got != test.text {
				t.Errorf("got  %s\nwant %s", got, test.text)
			}
			var typed *tangle.Error
			if !errors.As(err, &typed) || !errors.Is(err, test.kind) || typed.Kind != test.kind || typed.Code() != test.code {
				t.Errorf("kind and code of %#v", err)
			}
			if n := attempts.Load(); test.attempts != 0 && n != test.attempts {
				t.Errorf("%d attempts, want %d", n, test.attempts)
			}
		})
	}
}

func TestNodesAreTriedInOrder(t *testing.T) {
	broken := httptest.NewServer(answering(404, ""))
	defer broken.Close()
	n := newNode(t)
	cfg := serve(t, n)
	cfg.URLs = []string{broken.URL, cfg.URLs[0]}
	if b := read(t, cfg, 0); b.NamesFrom != tangle.FromEvent {
		t.Errorf("%+v", b)
	}
	cfg.URLs = []string{broken.URL, broken.URL}
	_, err := tangle.Read(context.Background(), cfg, 0)
	want := fmt.Sprintf("none of 2 nodes gave an answer: node %[1]s answered with HTTP 404 Not Found; node %[1]s "+
		"answered with HTTP 404 Not Found", broken.URL)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestAMomentaryFailureIsOvercome(t *testing.T) {
	for name, failure := range map[string]http.HandlerFunc{
		"HTTP 502":       answering(502, ""),
		"header missing": answering(200, `[{"id":1,"error":{"code":-32000,"message":"header not found"}}]`),
		"internal error": answering(200, `{"id":null,"error":{"code":-32603,"message":"Internal error"}}`),
		"closed":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"closed midway": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.WriteHeader(200)
		},
		"rate limited":    answering(429, `{"id":null,"error":{"code":-32005,"message":"slow down"}}`),
		"gateway timeout": answering(504, "<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					failure(w, r)
					return
				}
				n.ServeHTTP(w, r)
			}))
			defer server.Close()
			b, err := tangle.Read(context.Background(), tangle.Config{URLs: []string{server.URL}, Contract: &contract}, 0)
			if name == "header missing" { // an answer without the others is malformed, not missing for a moment
				if !errors.Is(err, tangle.ErrMalformed) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || b.Definition.Metadata.Name != "three-jobs-valid" {
				t.Errorf("%v", err)
			}
		})
	}
}

// Hosted nodes have keys in the password, the path or the query, and repeat them in their answers.
func TestCredentialsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-0123456789abcdef"
	for _, handler := range []http.HandlerFunc{
		answering(404, secret), answering(500, ""), answering(200, "nonsense "+secret),
		answering(401, `{"id":null,"error":{"code":-32001,"message":"invalid key `+secret+`"}}`),
		answering(200, `{"id":1,"error":{"code":-32600,"message":"invalid key `+secret+`"}}`),
		answering(200, `{"id":null,"error":{"code":-32005,"message":"limit of `+secret+`","data":{"see":"`+secret+`"}}}`),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		http.RedirectHandler("/"+secret, http.StatusMovedPermanently).ServeHTTP,
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(handler)
			defer server.Close()
			host := strings.TrimPrefix(server.URL, "http://")
			for _, url := range []string{
				"http://user:" + secret + "@" + host, "http://" + secret + "@" + host, server.URL + "/v3/" + secret,
				server.URL + "/?key=" + secret,
				"http://" + secret + "@" + host + ":bad",
			} {
				_, err := tangle.Read(context.Background(), tangle.Config{URLs: []string{url}, Contract: &contract}, 0)
				if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err.Error()), secret) {
					t.Errorf("%s: %v", strings.ReplaceAll(url, secret, "SECRET"), err)
				}
			}
		})
	}
}

// echoed returns everything that a careless node may know of its client's credentials, as texts in
// its answers.
func echoed(r *http.Request) map[string]string {
	user, password, _ := r.BasicAuth()
	texts := map[string]string{
		"header": r.Header.Get("Authorization"), "URI": r.RequestURI, "query": r.URL.Query().Get("key"), "path": r.URL.Path,
		"user": user, "password": password, "unpadded": strings.TrimRight(r.Header.Get("Authorization"), "="),
		"URL with user": (&url.URL{Scheme: "http", Host: r.Host, User: url.UserPassword(user, password),
			Path: r.URL.Path}).String(),
		"lower escapes": strings.ToLower(url.QueryEscape(password)),
	}
	for name, text := range maps.Clone(texts) {
		quoted, _ := json.Marshal(text) // a string
		texts[name+" in JSON"] = string(quoted)
		texts[name+" in ASCII JSON"] = strings.ReplaceAll(strconv.QuoteToASCII(text), "/", `\/`)
	}
	return texts
}

// Credentials that a node repeats are never printed, in any form and from any place in its answer,
// and neither is a part that a cut leaves.
func TestEchoedCredentialsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	const user, password, key = "operator-1", `p@ss/wörd "&+<1>`, "k3y/=&0123456789-abcdef"
	var offset int
	var form string
	raw := func(w http.ResponseWriter, format string, args ...any) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(conn, format, args...)
		conn.Close()
	}
	answers := map[string]func(w http.ResponseWriter, text string){
		"no JSON":         func(w http.ResponseWriter, text string) { answer(w, 200, text) },
		"an error's body": func(w http.ResponseWriter, text string) { answer(w, 404, text) },
		"a message": func(w http.ResponseWriter, text string) {
			message, _ := json.Marshal(map[string]any{"id": 1, "error": map[string]any{"code": -32000, "message": text}})
			answer(w, 400, string(message))
		},
		"a reverted call": func(w http.ResponseWriter, text string) {
			message, _ := json.Marshal("execution reverted " + text)
			answer(w, 200, `{"id":1,"error":{"code":3,"message":`+string(message)+`}}`)
		},
		"a number": func(w http.ResponseWriter, text string) {
			message, _ := json.Marshal(text)
			answer(w, 200, `{"id":1,"result":`+string(message)+`}`)
		},
		"the status": func(w http.ResponseWriter, text string) {
			raw(w, "HTTP/1.1 404 %s\r\nContent-Length: 0\r\n\r\n", text)
		},
		"no HTTP":  func(w http.ResponseWriter, text string) { raw(w, "%s\r\n\r\n", text) },
		"a header": func(w http.ResponseWriter, text string) { raw(w, "HTTP/1.1 200 OK\r\n%s\r\n\r\n", text) },
	}
	var how func(http.ResponseWriter, string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		how(w, strings.Repeat("x", offset)+echoed(r)[form])
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.Path, u.RawQuery = url.UserPassword(user, password), "/v3/"+"0123456789-path-key",
		url.Values{"key": {key}}.Encode()
	sent, err := http.NewRequest(http.MethodPost, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	sent.SetBasicAuth(user, password)
	sent.RequestURI = u.RequestURI()
	leaks := []string{user, password, key, "path-key", base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	for name, f := range answers {
		how = f
		for form = range echoed(sent) {
			offsets := []int{0, 20, 32, 190}             // the cuts fall into it
			if name == "no HTTP" || name == "a header" { // tried several times
				if offsets = nil; form == "header" || form == "query in JSON" {
					offsets = []int{0, 170}
				}
			}
			for _, offset = range offsets {
				_, err := tangle.Read(t.Context(), tangle.Config{
					URLs: []string{u.String()}, Contract: &contract, Timeout: time.Minute}, 0)
				if err == nil {
					t.Fatalf("%s, %s: no error", name, form)
				}
				text := strings.ToLower(fmt.Sprintf("%v %+v", err, err))
				for _, leak := range leaks {
					for i := range len(leak) - 5 { // even a part of it
						if part := leak[i : i+6]; strings.Contains(text, strings.ToLower(part)) {
							t.Fatalf("%s, %s behind %d characters: %q is in %v", name, form, offset, part, err)
						}
					}
				}
			}
		}
	}
}

func answer(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// hanging serves a conversation over raw connections. It calls f with each connection after the
// request.
func hanging(t *testing.T, f func(conn net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	t.Cleanup(func() { l.Close(); served.Wait() })
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(t.Context(), func() { conn.Close() })()
				if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.CopyN(io.Discard, req.Body, req.ContentLength)
					f(conn)
				}
			})
		}
	})
	return "http://" + l.Addr().String()
}

// untilClosed waits until the other side has closed the connection.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func repeat(text string) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
}

// A node that never finishes must not hold its caller beyond the time limit, whatever it does.
func TestNoNodeHoldsItsCaller(t *testing.T) {
	const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	for name, test := range map[string]struct {
		f    func(net.Conn)
		kind tangle.Kind
	}{
		"another protocol": {func(conn net.Conn) { _, _ = io.WriteString(conn, switched); untilClosed(conn) },
			tangle.ErrHTTP},
		"another protocol, and words": {func(conn net.Conn) { _, _ = io.WriteString(conn, switched); repeat("word ")(conn) },
			tangle.ErrHTTP},
		"information without end": {repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), ""},
		"headers without end": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			repeat("X-More: and more\r\n")(conn)
		}, ""},
		"nothing at all": {untilClosed, tangle.ErrTimeout},
		"a body that trickles": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n[")
			untilClosed(conn)
		}, tangle.ErrTimeout},
		"an error's body that trickles": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 500 Oh\r\nContent-Length: 1000000\r\n\r\n[")
			untilClosed(conn)
		}, tangle.ErrHTTP},
		"a body without end": {func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			repeat(strings.Repeat("[", 64<<10))(conn)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const enough = 200 * time.Millisecond
			cfg := tangle.Config{URLs: []string{hanging(t, test.f)}, Contract: &contract, Timeout: enough}
			for what, f := range map[string]func(context.Context) error{
				"Read":     func(ctx context.Context) error { _, err := tangle.Read(ctx, cfg, 0); return err },
				"ReadHead": func(ctx context.Context) error { _, err := tangle.ReadHead(ctx, cfg); return err },
			} {
				ended := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				go func() { ended <- f(ctx) }()
				select {
				case err := <-ended:
					var typed *tangle.Error
					if !errors.As(err, &typed) || test.kind != "" && typed.Kind != test.kind {
						t.Errorf("%s: %v", what, err)
					}
				case <-time.After(30 * time.Second): // only a guard: it takes a moment
					t.Errorf("%s: still waiting", what)
				}
				cancel()
			}
		})
	}
}

// A node without batches has the same limit as a batch.
func TestAnswersAreBoundedTogether(t *testing.T) {
	t.Parallel()
	var served atomic.Int32
	large := `{"id":1,"result":"0x` + strings.Repeat("00", tangle.MaxResponse/2/3) + `"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil:
		case bytes.HasPrefix(body, []byte("[")):
			answer(w, 200, `{"id":null,"error":{"code":-32600,"message":"no batches"}}`)
		case bytes.Contains(body, []byte("eth_chainId")), bytes.Contains(body, []byte("eth_blockNumber")):
			answer(w, 200, `{"id":1,"result":"0x1"}`)
		default:
			served.Add(1)
			answer(w, 200, large)
		}
	}))
	defer server.Close()
	_, err := tangle.Read(t.Context(), tangle.Config{URLs: []string{server.URL}, Contract: &contract}, 0)
	if !errors.Is(err, tangle.ErrTooLarge) || served.Load() != 3 {
		t.Errorf("%d answers of a third of what may be, %v", served.Load(), err)
	}
}

func TestTheCallersContextEndsTheRead(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	_, err := tangle.Read(ctx, tangle.Config{URLs: []string{server.URL}, Contract: &contract}, 0)
	want := "node " + server.URL + " had not answered: context canceled"
	if !errors.Is(err, context.Canceled) || !errors.Is(err, tangle.ErrTimeout) || err.Error() != want {
		t.Errorf("%v", err)
	}
}
