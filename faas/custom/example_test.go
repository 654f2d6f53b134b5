package custom_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
)

func ExampleNew() {
	// An invoke-only platform whose one function was deployed by hand.
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"result":[104,101,108,108,111]}`)
	}))
	defer platform.Close()

	exec, err := custom.New(context.Background(), faas.Config{
		Service:  "my-service",
		Endpoint: platform.URL,
		Options:  map[string]string{"mode": "invoke-only", "token": "abc"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer exec.Close()
	result, err := exec.Invoke(context.Background(), 0, []byte("hi"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", result.Output)
	// Output: hello
}
