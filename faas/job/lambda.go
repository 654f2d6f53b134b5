package job

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// maxLambdaAnswer is the largest response of a synchronous invocation, in bytes. Above it Lambda
// itself would answer, with an error that names no job.
const maxLambdaAnswer = 6 << 20

// errorTypes are the names under which Lambda's callers see failures.
var errorTypes = map[frame.FailureCode]string{
	frame.JobFailed:  "JobFailed",
	frame.JobPanic:   "JobPanic",
	frame.UnknownJob: "UnknownJob",
	frame.BadRequest: "BadRequest",
	frame.TooLarge:   "TooLarge",
	frame.Cancelled:  "Cancelled",
}

// serveLambda serves the Runtime API. If that fails, aws-lambda-go ends the process itself.
func (p *process) serveLambda(ctx context.Context) error {
	lambda.StartWithOptions(lambdaHandler{p}, lambda.WithContext(ctx))
	return nil
}

// lambdaHandler takes events as raw bytes, which bypasses encoding/json.
type lambdaHandler struct{ *process }

// Invoke makes it a lambda.Handler.
func (p lambdaHandler) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	if faas.IsWarmRequest(event) {
		return []byte(faas.WarmResponse), nil
	}
	id, args, compact, err := faas.ParseAnyRequest(nil, event)
	if err != nil {
		return nil, functionError(&failure{frame.BadRequest, err.Error()})
	}
	output, took, fail := p.await(ctx, id, args)
	if fail != nil {
		return nil, functionError(fail)
	}
	r := response(id, output, took, nil, 0) // Lambda reports the memory itself
	r.Compact = compact
	answer := faas.AppendResponse(nil, r)
	if len(answer) > maxLambdaAnswer {
		return nil, functionError(tooLarge(int64(len(answer)), maxLambdaAnswer))
	}
	return answer, nil
}

// functionError makes a failure one that aws-lambda-go reports with our type, without ending the
// process.
func functionError(f *failure) error {
	return messages.InvokeResponse_Error{Type: errorTypes[f.code], Message: f.message}
}
