// Package lambdatest is AWS Lambda for tests: a server on loopback that speaks the wire protocol of
// Lambda's control plane and of Invoke, and runs the bootstrap of deployed packages as real
// processes under the Runtime API. Official clients need nothing but its address:
//
//	server := lambdatest.New(lambdatest.Config{})
//	defer server.Close()
//	for name, value := range server.Environment() { os.Setenv(name, value) }
//
// It has states that take time, revisions, code hashes, versions, aliases, tags, reserved and
// provisioned concurrency, and refuses what Lambda refuses, with Lambda's codes and words. Beside
// Lambda it answers what a deployment asks of IAM, STS, S3, CloudWatch Logs and Service Quotas. A
// request is for the service that it is signed for. Signatures are verified, and requests are
// checked against the services' official models where they are given.
//
// It is no sandbox: functions run with the rights of the test.
package lambdatest
