//go:build !faas_only || faas_aws

package aws

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

func TestAllTagsTogetherAreAsManyAsLambdaTakes(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	server.CreateBucket("packages")
	var tags []string
	for i := range maxUserTags {
		tags = append(tags, fmt.Sprintf("key-%d=v", i))
	}
	options := map[string]string{"role_arn": "", "create_role": "true", "bucket": "packages",
		"tags": strings.Join(tags, ",")}
	e := openAt(t, server, "tags", opening{options: options})
	e.direct = 10
	f := small(0)
	f.KeepWarm = 1
	u := unitOf(t, e, script(t, "x"), f)
	mustDeploy(t, e, u)
	got, _ := server.Function(u.ID)
	if n := len(got.Tags); n != maxUserTags+ownTags {
		t.Errorf("the function has %d tags: %v", n, got.Tags)
	}
	options["tags"] += ",one=more"
	if _, err := tryOpen(t, server, "tags", opening{options: options}); faas.CodeOf(err) != faas.ErrInvalidArgument ||
		!strings.Contains(err.Error(), "38") {
		t.Errorf("one tag more: %v", err)
	}
}

func TestConcurrencyGoesDownAndBack(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "down", opening{})
	bin := script(t, "x")
	unit := func(concurrent, warm uint32) faas.Unit {
		f := small(0)
		f.MaxConcurrency, f.KeepWarm = concurrent, warm
		return unitOf(t, e, bin, f)
	}
	check := func(reserved, warm int) {
		t.Helper()
		got, _ := server.Function("blueprint-down-0")
		if got.Reserved == nil || *got.Reserved != reserved || got.Provisioned["live"] != warm {
			t.Fatalf("reserved %v, kept warm %v; want %d and %d", got.Reserved, got.Provisioned, reserved, warm)
		}
	}
	mustDeploy(t, e, unit(10, 8))
	check(10, 8)
	low := mustDeploy(t, e, unit(3, 2))
	check(3, 2)
	mustDeploy(t, e, unit(20, 15))
	check(20, 15)
	if err := e.Restore(t.Context(), low); err != nil {
		t.Fatal(err)
	}
	check(3, 2)
	mustDeploy(t, e, unit(1, 0))
	got, _ := server.Function("blueprint-down-0")
	if *got.Reserved != 1 || len(got.Provisioned) != 0 {
		t.Errorf("reserved %v, kept warm %v", *got.Reserved, got.Provisioned)
	}
}

func TestAServiceOfAnyNameGetsItsRole(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	for _, service := range []string{"服务 №1", "a\u0000b", strings.Repeat("ж", 300), "plain"} {
		e := openAt(t, server, service, opening{options: map[string]string{"role_arn": "", "create_role": "true"}})
		u := unitOf(t, e, script(t, "x"), small(0))
		mustDeploy(t, e, u)
		if err := e.Remove(t.Context(), u.ID); err != nil {
			t.Errorf("%q: %v", service, err)
		}
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

func TestOnlyTheAccountThatIsAllowedIsChanged(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	u := unitOf(t, openAt(t, server, "account", opening{}), script(t, "x"), small(0))
	state := mustDeploy(t, openAt(t, server, "account", opening{}), u)
	before, _ := server.Function(u.ID)
	e := openAt(t, server, "account", opening{options: map[string]string{"account_id": "999999999999"}})
	_, cerr := e.Converge(t.Context(), u, &state, nil)
	for name, err := range map[string]error{"Converge": cerr, "Restore": e.Restore(t.Context(), state),
		"Remove": e.Remove(t.Context(), u.ID)} {
		if faas.CodeOf(err) != faas.ErrPermissionDenied || !strings.Contains(fmt.Sprint(err), "999999999999") {
			t.Errorf("%s: %v", name, err)
		}
	}
	after, _ := server.Function(u.ID)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("it was changed:\n%s", diff)
	}
}

func TestAllPackagesOfAServiceAreRemoved(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	server.CreateBucket("packages")
	e := openAt(t, server, "many packages", opening{options: map[string]string{"bucket": "packages"}})
	var wg sync.WaitGroup
	slots := make(chan struct{}, 20)
	for i := range 1001 { // S3 lists 1,000 at a time
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			where := object{"packages", fmt.Sprintf("%s%064x.zip", e.keyStem(), i)}
			if err := putEmpty(t, e, where); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := putEmpty(t, e, object{"packages", "blueprint-serverless/blueprint-other-packages/0.zip"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), functionName("many packages", 0)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"object packages/blueprint-serverless/blueprint-other-packages/0.zip"},
		server.Left()); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestABucketThatCannotBeUsedIsExplained(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault lambdatest.Fault
		want  faas.Code
		text  string
	}{
		"another region":  {lambdatest.Fault{Status: 301}, faas.ErrInvalidArgument, "another region"},
		"may not be seen": {lambdatest.Fault{Status: 403}, "", ""}, // the package is put there all the same
		"broken":          {lambdatest.Fault{Status: 400}, faas.ErrInvalidArgument, "HeadObject"},
	} {
		server := serve(t, lambdatest.Config{Handler: answering, Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if c.Operation == "HeadObject" {
				return &tt.fault
			}
			return nil
		}})
		server.CreateBucket("packages")
		e := openAt(t, server, "explained", opening{options: map[string]string{"bucket": "packages"}})
		e.direct = 10
		_, err := deploy(t.Context(), e, unitOf(t, e, script(t, "x"), small(0)))
		if faas.CodeOf(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v (%q)", name, err, faas.CodeOf(err))
		}
	}
}

// The number of reads for each removed function does not grow with the number of functions.
func TestRemovingManyFunctionsReadsFew(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Handler: answering})
	e := openAt(t, server, "few", opening{options: map[string]string{"role_arn": "", "create_role": "true"}})
	const n = 20
	bin := script(t, "x")
	for i := range uint32(n) {
		mustDeploy(t, e, unitOf(t, e, bin, small(i)))
	}
	server.ForgetCalls()
	for i := range uint32(n) {
		if err := e.Remove(t.Context(), functionName("few", i)); err != nil {
			t.Fatal(err)
		}
	}
	if reads := len(server.Calls("GetFunction", "ListFunctions")); reads > 5*n {
		t.Errorf("removing %d functions took %d reads", n, reads)
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
}

func TestAFunctionIsWokenThoughReadsLag(t *testing.T) {
	t.Parallel()
	e, server := deployed(t, nil, func(c lambdatest.Call) *lambdatest.Fault {
		if c.N <= 5 { // the first two were probes
			return &lambdatest.Fault{Status: 409, Code: "ResourceConflictException",
				Message: "The operation cannot be performed at this time. " +
					"The function is currently in the following state: Pending"}
		}
		return nil
	})
	answers(t, e, 0, "1-one")
	if n := len(server.Calls("Invoke")); n != 4 {
		t.Errorf("%d invocations were sent", n)
	}
}

func TestTheLongestValueIsHiddenFirst(t *testing.T) {
	t.Parallel()
	env := map[string]string{"A": "hunter", "B": "hunter-of-the-moon", "C": "of-the", "D": `quo"ted-value`}
	const text = `String measured: {"A":"hunter","B":"hunter-of-the-moon","C":"of-the","D":"quo\"ted-value"}`
	for range 20 { // maps have no order
		err := withoutValues(faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.AWSLambda, "%s", text), maps.Clone(env))
		if got := err.Error(); strings.Contains(got, "moon") || strings.Contains(got, "hunter") ||
			strings.Contains(got, "ted-value") || !strings.Contains(got, `{"A":"`) {
			t.Fatal(got)
		}
	}
}

// A value that was sent may come back in another encoding.
func TestValuesAreHiddenInEveryEncoding(t *testing.T) {
	t.Parallel()
	const value = "hunter2 of/the+moon"
	for name, text := range map[string]string{
		"base64": base64.StdEncoding.EncodeToString([]byte(value)), "URL": url.QueryEscape(value),
		"path": url.PathEscape(value),
	} {
		err := withoutValues(faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.AWSLambda, "value %s is refused", text),
			map[string]string{"A": value})
		if got := err.Error(); strings.Contains(got, text) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The log of a function that fails its probe is reported without the values of the environment.
func TestAFailedProbeHidesTheEnvironment(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-of-the-moon"
	server := serve(t, lambdatest.Config{Handler: func(i lambdatest.Invocation) lambdatest.Answer {
		return lambdatest.Answer{
			Payload:       []byte(`{"errorType":"Runtime.ExitError","errorMessage":"no such key ` + i.Env["KEY"] + `"}`),
			FunctionError: "Unhandled", Log: "the key is " + i.Env["KEY"] + "\n",
		}
	}})
	e := openAt(t, server, "probe", opening{})
	f := small(0)
	f.Env = faas.NewEnv(map[string]string{"KEY": secret})
	_, err := deploy(t.Context(), e, unitOf(t, e, script(t, "x"), f))
	var failed *faas.FunctionError
	if faas.CodeOf(err) != faas.ErrFunctionFailed || !errors.As(err, &failed) ||
		!strings.Contains(failed.LogTail, "the key is (hidden)") {
		t.Fatalf("got %v", err)
	}
	if told := fmt.Sprintf("%v %+v %+v", err, err, *failed); strings.Contains(told, secret) {
		t.Error(told)
	}
}

func TestEveryRegionOfAWSIsKnown(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"us-east-1", "ap-southeast-5", "us-gov-west-1", "cn-northwest-1", "us-isob-east-1",
		"eu-isoe-west-1", "eusc-de-east-1", "mx-central-1"} {
		if !regionPattern.MatchString(region) {
			t.Errorf("%s is refused", region)
		}
	}
	for _, region := range []string{"", "us-east", "us-east-1a", "US-EAST-1", "us-east-1.evil.example/", "-1"} {
		if regionPattern.MatchString(region) {
			t.Errorf("%q is taken", region)
		}
	}
}

func putEmpty(t *testing.T, e *Executor, where object) error {
	_, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &where.bucket, Key: &where.key})
	return err
}
