// Package ec2 runs a service's light runner on a small machine of EC2, by default a t4g.nano. Pass
// its [Orchestrator] to serverless.WithOrchestrator.
//
// # What it does
//
// Start puts the service's binary into a bucket and launches a machine. The machine's user data
// fetches the binary by a presigned URL, checks its SHA-256, and runs it under systemd, which
// restarts it, as its own user with BLUEPRINT_FAAS_CONFIG in the environment. The metadata service
// of the machine requires sessions (IMDSv2). The machine and its volume carry the service's name in
// tags. A machine that shuts down is terminated, which also happens if it cannot fetch its binary.
// Only the first boot needs the object in the bucket, which is removed when the runner is stopped.
//
// The runner is an orchestrator.Detached: it outlives the program that started it, Close leaves it
// running, and Undeploy terminates it. The ledger records where it is before anything is created.
// After a crash, the machine is therefore found and kept, or terminated.
//
// Nothing can connect to the machine: it has no open port. It is up when EC2 reports that it runs,
// and its health is what EC2 reports. The runner of a service on chain also tells the machine's
// console what it says of its own health, and Health reads that. Callers cannot invoke local jobs:
// a service with local jobs is deployed with a warning, and its runner runs those that come from
// the chain, as it does all others.
//
// # A service on chain
//
// The runner keeps its journal in /var/lib/blueprint/data, or where ServiceSpec.DataDir says. The
// machine's volume goes with the machine, so a deployment that replaces it, and Undeploy, lose the
// journal. The next runner finds the open calls from the contract, and answers none twice; a
// function whose answer had not reached the chain is run again.
//
// The operator's key is in a parameter ([Config.KeyParameter]), or at the path that
// ServiceSpec.Keystore names in an image of one's own.
//
// # What it needs
//
// The subnet must let the machine reach S3 and the provider of the functions: by a public address,
// a NAT gateway or endpoints. The runner invokes functions with the instance profile. The caller
// needs ec2:RunInstances, ec2:CreateTags, ec2:DescribeInstances, ec2:TerminateInstances,
// ec2:GetConsoleOutput, ssm:GetParameter on /aws/service/ami-amazon-linux-latest/*, s3:PutObject,
// s3:GetObject and s3:DeleteObject in the bucket, and iam:PassRole for the profile's role. To find
// a runner again, use the same region and account.
//
// Every call uses the whole configuration of the AWS SDK: AWS_PROFILE and the configuration files,
// SSO, the instance's role, AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_EC2, _SSM and _S3, AWS_CA_BUNDLE,
// AWS_MAX_ATTEMPTS (5 if it is not set), AWS_RETRY_MODE.
//
// # Secrets
//
// Everyone who may call ec2:DescribeInstanceAttribute can read user data, and so can every process
// on the machine. A service's environment would be there in the clear, so Start refuses it unless
// [Config.EnvInUserData] is set, and so it does a node's URL with more than a scheme and a host.
// Leave credentials to the instance profile, and other secrets to the parameter store
// ([Config.EnvParameter]).
//
// # What it costs
//
// The SDK's client of EC2 has some seven hundred operations, and takes minutes to compile when a
// program is built for the first time. Only programs that import this package pay for it.
package ec2
