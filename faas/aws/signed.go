//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"net/http"

	"github.com/aws/smithy-go"

	"github.com/tangle-network/blueprint-serverless/internal/awssign"
)

// maxAttempts is how often a request outside Lambda is sent.
const maxAttempts = 4

// send signs and sends a request that is safe to repeat until it is answered, and returns the answer's body. A failure that the service describes is an
// *awssign.Error. The few calls that a function needs outside Lambda (a role, an object, a log group) go this way, in place of three more clients of
// the SDK, which would make every program that uses this package 2.3 MB bigger.
func (e *Executor) send(ctx context.Context, to awssign.Service, r awssign.Request) ([]byte, error) {
	client := awssign.Client{Config: e.aws()}
	wait := e.pace.within(e.pace.settle)
	for attempt := 1; ; attempt++ {
		var body []byte
		send := func(ctx context.Context) (err error) {
			body, err = client.Send(ctx, to, r)
			return err
		}
		var err error
		if r.Method == http.MethodGet || r.Method == http.MethodHead || r.ReadOnly {
			err = send(ctx)
		} else {
			err = e.finish(ctx, send)
		}
		if err == nil {
			return body, nil
		}
		err = &smithy.OperationError{ServiceID: to.ID, OperationName: r.Operation, Err: err}
		if attempt == maxAttempts || (ctx.Err() == nil && !repeatable(err)) {
			return nil, err
		}
		if err := wait.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// repeatable reports whether a request outside Lambda may succeed when it is sent again: IAM and S3 refuse one change while another one is under way.
func repeatable(err error) bool {
	switch apiCode(err) {
	case "ConcurrentModification", "OperationAborted", "RequestTimeout":
		return true
	}
	return transient(err)
}
