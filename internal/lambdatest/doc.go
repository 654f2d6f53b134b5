// Package lambdatest is AWS Lambda for tests: a server on loopback that speaks the wire protocol of Lambda's control plane and of Invoke, and runs the
// bootstrap of deployed packages as real processes under the Runtime API. Official clients need nothing but its address:
//
//	server := lambdatest.New(lambdatest.Config{})
//	defer server.Close()
//	for name, value := range server.Environment() { os.Setenv(name, value) }
//
// It has states that take time (Pending, InProgress), revisions, code hashes, versions, aliases, tags, reserved and provisioned concurrency, limits,
// and Lambda's own error codes. Beside Lambda it answers the few calls of IAM, STS, S3 and CloudWatch Logs that a deployment may make. Requests must be
// signed, and are checked against the official service model where one is given.
//
// It is no sandbox: functions run with the rights of the test.
package lambdatest
