package bls_test

import (
	"fmt"
	"log"
	"net/http"

	"github.com/tangle-network/blueprint-serverless/runner/bls"
)

// An operator's key signs what the contract demands at the approval of a service, and then results.
func Example() {
	key, err := bls.NewKey([32]byte{31: 42})
	if err != nil {
		fmt.Println(err)
		return
	}
	proof := key.ProvePossession(31337, [20]byte{1}, [20]byte{2}).Words()
	fmt.Printf("proof %x...\n", proof[0][:8])

	sig := key.Sign([]byte("a message"))
	fmt.Println(bls.Verify(key.PublicKey(), []byte("a message"), sig))
	fmt.Println(bls.Verify(key.PublicKey(), []byte("another"), sig))
	// Output:
	// proof 2744cded739aa2d8...
	// true
	// false
}

// What New returns goes to the runner as its aggregator.
func ExampleNew() {
	keys, warnings, err := bls.LoadKeys("/var/lib/blueprint/keystore")
	for _, w := range warnings {
		log.Print(w)
	}
	if err != nil {
		log.Print(err)
		return
	}
	aggregator, err := bls.New(keys[0], "http://10.0.0.5:8080")
	if err != nil {
		log.Print(err)
		return
	}
	_ = aggregator // runner.Main(handlers, runner.WithAggregator(aggregator))
}

// One of the operators runs the service at which all meet.
func ExampleService() {
	log.Print(http.ListenAndServe("10.0.0.5:8080", bls.NewService()))
}
