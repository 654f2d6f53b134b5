package serverless_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func ExampleLoadPolicy() {
	dir, _ := os.MkdirTemp("", "policy")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "deployment-policy.json")

	// Without a file: serverless off.
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	fmt.Println(policy.Serverless.Enable, policy.Serverless.Provider.Type, err)

	_ = os.WriteFile(path, []byte(`{
  "serverless": {
    "enable": true,
    "provider": {"type": "custom", "endpoint": "https://my-faas.example"}
  },
  "cost_limits": {"max_per_month": 20.00}
}`), 0o600)
	policy, err = serverless.LoadPolicy(serverless.WithPolicyPath(path))
	fmt.Println(policy.Serverless.Enable, policy.Serverless.Provider.Type, policy.Foreign(), err)
	// Output:
	// false aws-lambda <nil>
	// true custom [cost_limits] <nil>
}

func ExamplePolicy_Save() {
	dir, _ := os.MkdirTemp("", "policy")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "deployment-policy.json")
	_ = os.WriteFile(path, []byte(`{
  "serverless": {"enable": false, "note": 1.0},
  "cost_limits": {"max_per_month": 20.00}
}`), 0o600)

	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err != nil {
		fmt.Println(err)
		return
	}
	policy.Serverless.Enable = true
	policy.Serverless.DefaultMemoryMB = 1024
	if err := policy.Save(); err != nil {
		fmt.Println(err)
		return
	}
	content, _ := os.ReadFile(path)
	fmt.Println(string(content))
	// Output:
	// {
	//   "serverless": {"enable": true, "note": 1.0, "default_memory_mb": 1024},
	//   "cost_limits": {"max_per_month": 20.00}
	// }
}

func ExampleServerlessSettings_Validate() {
	settings := serverless.DefaultPolicy().Serverless
	settings.Provider = serverless.ProviderSettings{Type: faas.Custom, Endpoint: "https://my-faas.example"}
	settings.DefaultMemoryMB = 4096
	if wrong, ok := errors.AsType[*serverless.PolicyError](settings.Validate()); ok {
		fmt.Println(wrong.Field)
		fmt.Println(wrong.Err)
	}
	// Output:
	// serverless.default_memory_mb
	// 4096 MB is above the limit of custom, 2048 MB
}

func ExampleBindPolicyFlags() {
	fs := flag.NewFlagSet("policy", flag.ContinueOnError)
	flags := serverless.BindPolicyFlags(fs)
	_ = fs.Parse([]string{"--serverless", "true", "--faas-memory", "1024"})

	policy := serverless.DefaultPolicy()
	if err := flags.Apply(policy); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(policy.Serverless.Enable, policy.Serverless.DefaultMemoryMB)
	// Output: true 1024
}
