// Package aws is the provider for AWS Lambda. Importing it registers the name [faas.AWSLambda];
// [New] makes an executor without the registry.
//
// # How a job is deployed
//
// Every job has one function, called blueprint-SERVICE-JOB, on the runtime provided.al2023. If the
// job binary links faas/job, it is itself the function's bootstrap. A binary or script that reads
// one request on stdin and writes one response on stdout is packed with a shell script that speaks
// Lambda's Runtime API for it. The architecture is the binary's: x86_64 or arm64.
//
// A deployment changes $LATEST, which nobody invokes, publishes it as a version, probes that
// version, and points the alias "live" at it. Until then the previous version answers, and going
// back only moves the alias. A deployment sends neither code, which it compares by hash, nor a
// setting that agrees already. Tags of the function record what is live and who owns the function;
// a function of the same name without these tags is never touched. If somebody else changes the
// function, its reserved concurrency or the alias, the next deployment notices and undoes it.
//
// If jobs and instances that are kept warm take all of the function's reserved concurrency, a
// version can be probed only when it is live, and goes live first. A deployment that fails is
// undone by the alias, which restores code and configuration of the previous version. The
// configuration of $LATEST is restored too; its code stays until the next deployment.
//
// KeepWarm of a function becomes provisioned concurrency of the alias, which is billed while idle.
// MaxConcurrency becomes reserved concurrency, which is taken from the account's other functions;
// Lambda does not let an account reserve its last 100.
//
// # Configuration
//
// Everything that the AWS SDK reads applies: AWS_PROFILE and the configuration files, SSO, web
// identity, the instance's role, AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_LAMBDA, AWS_CA_BUNDLE,
// AWS_RETRY_MODE, AWS_MAX_ATTEMPTS. The region is that of the policy, or [DefaultRegion] if the
// policy names none. AWS_REGION and the profile's region are ignored, so that a policy means the
// same place everywhere. [Executor.CheckPlace] detects that a service belongs to another account.
// The execution role is the option "role_arn", or else the environment variable
// AWS_LAMBDA_ROLE_ARN, or else, with the option "create_role", a role that this package makes for
// the service and removes with its last function. [faas.Provider] lists the registered options.
//
// Only Lambda is called, unless an option asks for more: IAM for create_role, S3 for packages over
// 4 MB with bucket or create_bucket, CloudWatch Logs for remove_logs and [Executor.Logs], STS for
// account_id and [Executor.CheckPlace]. The SDK's clients make all calls, with one configuration.
//
// # Invocations
//
// An invocation is sent once: the SDK's own retries are off for it, unless the option
// "repeatable_jobs" says that jobs may run more than once. A payload may have 6 MiB as JSON, in
// both directions. That is 4.5 MiB of bytes if a tag says that the function takes base64, as a
// function does whose program links this version of faas/job, and 1.5 to 3 MiB otherwise. The tags
// are read before the first invocation; a caller who may not read them uses the published form.
// Metrics are those of Lambda's REPORT line, in the text and in the JSON format of logs.
// [Executor.InvokeEvent] puts a job into Lambda's queue instead.
//
// # Permissions
//
// Deploying, invoking and removing need the following policy. Replace what is written in capitals,
// and "arn:aws" if the region is in another partition. Each statement from "Roles" on is for an
// option: create_role (the first two), bucket or create_bucket, remove_logs, subnet_ids, layers,
// kms_key_arn, account_id. Invoking alone takes lambda:InvokeFunction and, for payloads in the
// compact form and for functions that Lambda has to wake, lambda:GetFunction and lambda:ListTags.
//
//	{
//	  "Version": "2012-10-17",
//	  "Statement": [
//	    {
//	      "Sid": "Functions",
//	      "Effect": "Allow",
//	      "Action": [
//	        "lambda:CreateFunction",
//	        "lambda:GetFunction",
//	        "lambda:UpdateFunctionCode",
//	        "lambda:UpdateFunctionConfiguration",
//	        "lambda:DeleteFunction",
//	        "lambda:PublishVersion",
//	        "lambda:ListVersionsByFunction",
//	        "lambda:CreateAlias",
//	        "lambda:GetAlias",
//	        "lambda:UpdateAlias",
//	        "lambda:InvokeFunction",
//	        "lambda:PutFunctionConcurrency",
//	        "lambda:DeleteFunctionConcurrency",
//	        "lambda:PutProvisionedConcurrencyConfig",
//	        "lambda:GetProvisionedConcurrencyConfig",
//	        "lambda:DeleteProvisionedConcurrencyConfig",
//	        "lambda:ListTags",
//	        "lambda:TagResource",
//	        "lambda:UntagResource"
//	      ],
//	      "Resource": "arn:aws:lambda:*:ACCOUNT:function:blueprint-*"
//	    },
//	    {
//	      "Sid": "List",
//	      "Effect": "Allow",
//	      "Action": ["lambda:ListFunctions"],
//	      "Resource": "*"
//	    },
//	    {
//	      "Sid": "PassRole",
//	      "Effect": "Allow",
//	      "Action": ["iam:PassRole"],
//	      "Resource": "arn:aws:iam::ACCOUNT:role/ROLE",
//	      "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
//	    },
//	    {
//	      "Sid": "Roles",
//	      "Effect": "Allow",
//	      "Action": [
//	        "iam:CreateRole",
//	        "iam:TagRole",
//	        "iam:GetRole",
//	        "iam:PutRolePermissionsBoundary",
//	        "iam:PutRolePolicy",
//	        "iam:DeleteRolePolicy",
//	        "iam:ListRolePolicies",
//	        "iam:ListAttachedRolePolicies",
//	        "iam:DeleteRole"
//	      ],
//	      "Resource": "arn:aws:iam::ACCOUNT:role/blueprint-*"
//	    },
//	    {
//	      "Sid": "PassOwnRoles",
//	      "Effect": "Allow",
//	      "Action": ["iam:PassRole"],
//	      "Resource": "arn:aws:iam::ACCOUNT:role/blueprint-*",
//	      "Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
//	    },
//	    {
//	      "Sid": "Packages",
//	      "Effect": "Allow",
//	      "Action": [
//	        "s3:CreateBucket",
//	        "s3:PutLifecycleConfiguration",
//	        "s3:ListBucket",
//	        "s3:GetObject",
//	        "s3:PutObject",
//	        "s3:DeleteObject"
//	      ],
//	      "Resource": ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/blueprint-serverless/*"]
//	    },
//	    {
//	      "Sid": "Logs",
//	      "Effect": "Allow",
//	      "Action": ["logs:FilterLogEvents", "logs:DeleteLogGroup"],
//	      "Resource": "arn:aws:logs:*:ACCOUNT:log-group:/aws/lambda/blueprint-*"
//	    },
//	    {
//	      "Sid": "Network",
//	      "Effect": "Allow",
//	      "Action": ["ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"],
//	      "Resource": "*"
//	    },
//	    {
//	      "Sid": "Layers",
//	      "Effect": "Allow",
//	      "Action": ["lambda:GetLayerVersion"],
//	      "Resource": "LAYER"
//	    },
//	    {
//	      "Sid": "Key",
//	      "Effect": "Allow",
//	      "Action": ["kms:CreateGrant", "kms:Encrypt", "kms:Decrypt"],
//	      "Resource": "KEY"
//	    },
//	    {
//	      "Sid": "Account",
//	      "Effect": "Allow",
//	      "Action": ["sts:GetCallerIdentity"],
//	      "Resource": "*"
//	    },
//	    {
//	      "Sid": "Diagnose",
//	      "Effect": "Allow",
//	      "Action": ["lambda:GetAccountSettings", "iam:GetRole", "iam:SimulatePrincipalPolicy"],
//	      "Resource": "*"
//	    }
//	  ]
//	}
//
// The last statement is for [Executor.Diagnose] alone, which skips what it may not read, and says
// so.
//
// # Leaving it out
//
// A program that imports this package through faas/all and is built with -tags faas_only leaves it
// out, unless the tag faas_aws is given too. Opening the provider is then a [faas.ErrNotLinked]
// that says so.
package aws
