// Package ec2 runs a service's light runner on a small machine of EC2, a t4g.nano unless another type is wanted. [Orchestrator] goes into
// serverless.WithOrchestrator.
//
// # What it does
//
// The service's binary is put into a bucket; a machine is launched whose user data fetches it by a presigned URL, checks its SHA-256, and runs it under
// systemd, which restarts it, as a user of its own with BLUEPRINT_FAAS_CONFIG in its environment. The machine takes sessions of its metadata service
// only (IMDSv2), carries the service's name in tags, as its volume does, and is terminated by its own shutdown, as when its binary cannot be fetched.
// The object in the bucket is needed at the first boot alone, and is removed when the runner is stopped.
//
// The runner is a orchestrator.Detached: it outlives the program that started it, Close leaves it running, and Undeploy terminates it. Where it is, is
// written into the ledger before anything is made, so that a machine that a crashed program launched is found and kept, or terminated.
//
// There is no channel to the machine: no port is opened on it. It is up once EC2 says that it runs, and its health is EC2's word; whether the binary
// keeps running on it is seen in the machine's journal only. For the same reason no caller can invoke local jobs: a service that has some is deployed, with a
// warning, and runs those that come to it from the chain.
//
// # What it needs
//
// The subnet must give the machine a way to S3 and to the functions' provider: a public address, a NAT gateway or endpoints. The instance profile is
// what the runner invokes functions with. The caller needs ec2:RunInstances, ec2:CreateTags, ec2:DescribeInstances, ec2:TerminateInstances,
// ec2:GetConsoleOutput, ssm:GetParameter on /aws/service/ami-amazon-linux-latest/*, s3:PutObject, s3:GetObject and s3:DeleteObject in the bucket, and
// iam:PassRole for the profile's role. A runner is found again with the same region and account.
//
// Everything that the AWS SDK reads counts, for every call: AWS_PROFILE and the configuration files, SSO, the instance's role, AWS_ENDPOINT_URL and
// AWS_ENDPOINT_URL_EC2, _SSM and _S3, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS (5 if it is not set), AWS_RETRY_MODE.
//
// # Secrets
//
// User data can be read by everyone who may call ec2:DescribeInstanceAttribute, and by every process on the machine. A service's environment would
// stand there in the clear, and is refused unless [Config.EnvInUserData] allows it. Credentials are better left to the instance profile.
//
// # What it costs
//
// The SDK's client of EC2 has some seven hundred operations, and takes minutes to compile when a program is built for the first time. Only programs that
// import this package pay for it.
package ec2
