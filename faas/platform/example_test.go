//go:build unix

package platform_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas/platform"
)

// bootstrapZip packs a shell script as the bootstrap of a function.
func bootstrapZip(script string) *bytes.Buffer {
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate}
	h.SetMode(0o755)
	w, err := zw.CreateHeader(h)
	if err == nil {
		_, err = io.WriteString(w, script)
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
	return &buf
}

// A platform behind HTTP, and a client that deploys a script and runs it.
func Example() {
	p, err := platform.New()
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	srv := httptest.NewServer(p) // or: srv := p.Server(); srv.Addr = "127.0.0.1:8080"; srv.ListenAndServe()
	defer srv.Close()

	function := srv.URL + "/api/functions/hello-job0"
	put, err := http.NewRequest(http.MethodPut, function, bootstrapZip("#!/bin/sh\necho '{\"result\":[104,105]}'\n"))
	if err != nil {
		log.Fatal(err)
	}
	put.Header.Set("Content-Type", "application/zip")
	resp, err := http.DefaultClient.Do(put)
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println("deployed:", resp.Status)

	resp, err = http.Post(function+"/invoke", "application/json", strings.NewReader(`{"job_id":0,"args":[1,2,3]}`))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	before, _, _ := strings.Cut(string(answer), `,"execution_ms"`)
	fmt.Println("answered:", before)

	// The same function without HTTP.
	result, err := p.Invoke(context.Background(), "hello-job0", 0, []byte{1, 2, 3})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("output: %s\n", result.Output)
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// deployed: 200 OK
	// answered: {"job_id":0,"result":[104,105],"success":true
	// output: hi
}
