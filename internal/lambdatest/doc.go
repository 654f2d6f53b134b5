// Package lambdatest is AWS Lambda for tests: a server on loopback that speaks the wire protocol of
// Lambda's control plane and of Invoke, and runs the bootstrap of deployed packages as real
// processes under the Runtime API. Official clients need only its address:
//
//	server := lambdatest.New(lambdatest.Config{})
//	defer server.Close()
//	for name, value := range server.Environment() { os.Setenv(name, value) }
//
// It has states that take time, revisions, code hashes, versions, aliases, tags, reserved and
// provisioned concurrency. It refuses what Lambda refuses, with Lambda's codes and words. It also
// answers the calls of a deployment to IAM, STS, S3, CloudWatch Logs and Service Quotas. The
// signature of a request names its service. The server verifies signatures, and checks requests
// against the services' official models if it has them.
//
// It is not a sandbox: functions run with the rights of the test.
package lambdatest
