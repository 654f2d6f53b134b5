package faas_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// The error tells a program that did not import the provider what to do.
func ExampleOpen() {
	_, err := faas.Open(context.Background(), faas.Config{Provider: faas.AzureFunctions, Service: "squares"})
	if errors.Is(err, faas.ErrNotLinked) {
		fmt.Println("this program cannot deploy to Azure")
	}
	// Output: this program cannot deploy to Azure
}

// Programs act on the code of an error, and find the provider's own error in its cause.
func ExampleError() {
	var err error = faas.JobErrorf(faas.ErrFunctionFailed, "invoke", faas.Custom, 3, "%w",
		&faas.FunctionError{Type: "exit", Message: "the process ended", ExitCode: 2})

	fmt.Println(err)
	switch faas.CodeOf(err) {
	case faas.ErrThrottled, faas.ErrUnavailable:
		fmt.Println("try again later")
	case faas.ErrFunctionFailed:
		var failed *faas.FunctionError
		if errors.As(err, &failed) {
			fmt.Println("exit code", failed.ExitCode)
		}
	}
	// Output:
	// faas: invoke: custom: job 3: function failed (exit): the process ended (exit code 2)
	// exit code 2
}

// double is an invoker that needs no provider, such as one for tests.
type double struct{}

func (double) Invoke(_ context.Context, _ uint32, args []byte) (*faas.Result, error) {
	return &faas.Result{Output: append(args[:len(args):len(args)], args...)}, nil
}

// A runner delegates the jobs that are in its registry, and runs the others itself.
func ExampleRegistry() {
	var reg faas.Registry
	reg.Set(3, double{})

	for _, job := range []uint32{3, 4} {
		if _, ok := reg.Lookup(job); !ok {
			fmt.Println("job", job, "runs here")
			continue
		}
		result, err := reg.Invoke(context.Background(), job, []byte("ab"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("job %d answers %s\n", job, result.Output)
	}
	// Output:
	// job 3 answers abab
	// job 4 runs here
}

func ExampleProviderLimits() {
	limits, _ := faas.ProviderLimits(faas.AWSLambda)
	fmt.Printf("%d MiB, %d s\n", limits.MaxMemoryMB, limits.MaxTimeoutSecs)
	// Output: 10240 MiB, 900 s
}

func ExampleAppendRequest() {
	fmt.Printf("%s\n", faas.AppendRequest(nil, 3, []byte("abc")))
	// Output: {"job_id":3,"args":[97,98,99]}
}

// A service that is asked again and again reads every request into the same buffer.
func ExampleParseRequest() {
	var buffer []byte
	for _, body := range []string{`{"job_id": 3, "args": [1, 2, 3]}`, `{"job_id": 3, "args": [256]}`} {
		job, args, err := faas.ParseRequest(buffer[:0], []byte(body))
		if err != nil {
			fmt.Println(err)
			continue
		}
		buffer = args
		fmt.Println(job, args)
	}
	// Output:
	// 3 [1 2 3]
	// faas: read request: args[0]: 256 is not an integer from 0 to 255 (at byte 23)
}

// Job binaries may answer with only the result.
func ExampleParseResponse() {
	var r faas.Response
	if err := faas.ParseResponse([]byte(`{"result":[9]}`), &r); err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Success, r.Result)
	// Output: true [9]
}

// Unchanged files give the same package, wherever and whenever it is built.
func ExampleBuildPackage() {
	var hashes []string
	for range 2 {
		dir, err := os.MkdirTemp("", "package-")
		if err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(dir)
		pkg, err := faas.BuildPackage(context.Background(), dir, []faas.PackageFile{
			{Name: "bootstrap", Content: []byte("#!/bin/sh\necho '{\"result\":[]}'\n"), Mode: 0o755},
		})
		if err != nil {
			log.Fatal(err)
		}
		hashes = append(hashes, pkg.SHA256())
	}
	fmt.Println(hashes[0] == hashes[1])
	// Output: true
}

func ExampleInspectBinary() {
	dir, err := os.MkdirTemp("", "inspect-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "job")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '{\"result\":[]}'\n"), 0o755); err != nil {
		log.Fatal(err)
	}
	bin, err := faas.InspectBinary(path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bin.Format, bin.Interpreter, bin.Protocols, bin.CheckLinux(faas.ARM64))
	// Output: script /bin/sh stdio <nil>
}
