// Package aws is the provider for AWS Lambda. Importing it registers the name [faas.AWSLambda]; [New] makes an executor without the registry.
//
// # How a job is deployed
//
// Every job has one function, called blueprint-SERVICE-JOB, of the runtime provided.al2023. Its bootstrap is the job binary itself where that links
// faas/job; a binary or script that reads one request on stdin and writes one response on stdout is packed beside a shell script that speaks Lambda's
// Runtime API for it. The architecture is the binary's: x86_64 or arm64.
//
// A deployment changes $LATEST, which nobody invokes, publishes it as a version, probes that version, and points the alias "live" at it. Until then the
// version before it answers, and going back is a switch of the alias. What agrees already is not sent: neither code, by its hash, nor any setting. Tags
// of the function record what is live, and whose the function is; a function of the same name without them is never touched. What somebody else changes of
// the function, its reserved concurrency or the alias is seen, and undone by the next deployment.
//
// A version that can be probed only when it is live, because jobs and instances that are kept warm take all of the function's reserved concurrency, goes live
// first. A deployment that fails is put back by its alias, which brings code and configuration of the version before; of $LATEST the configuration is put
// back too, and its code stays until the next deployment.
//
// KeepWarm of a function becomes provisioned concurrency of the alias, which is billed while idle. MaxConcurrency becomes reserved concurrency, which the
// account's other functions then lack, and of which Lambda refuses the account's last 100.
//
// # Configuration
//
// Everything that the AWS SDK reads counts: AWS_PROFILE and the configuration files, SSO, web identity, the instance's role, AWS_ENDPOINT_URL and
// AWS_ENDPOINT_URL_LAMBDA, AWS_CA_BUNDLE, AWS_RETRY_MODE, AWS_MAX_ATTEMPTS. The region is that of the policy, [DefaultRegion] where it names none; AWS_REGION
// and the profile's do not count, so that a policy means the same place everywhere. [Executor.CheckPlace] tells the account of a service from another one.
// The execution role is the option "role_arn", else the environment variable AWS_LAMBDA_ROLE_ARN, else, with the option "create_role", one that
// this package makes for the service and removes with its last function. The registered options are listed by [faas.Provider].
//
// Only Lambda is called, unless an option asks for more: IAM for create_role, S3 for packages over 4 MB with bucket or create_bucket, CloudWatch Logs for
// remove_logs and [Executor.Logs], STS for account_id and [Executor.CheckPlace]. All of them are called by the SDK's clients with one configuration.
//
// # Invocations
//
// An invocation is sent once: the SDK's own repetition is off for it, unless the option "repeatable_jobs" says that jobs may run more than once. A payload may
// have 6 MiB as JSON, in both directions: 4.5 MiB of bytes if a tag says that the function takes base64, which it does if its program links this version of
// faas/job, and 1.5 to 3 MiB otherwise. The tags are read before the first invocation; who may not read them invokes in the published form. Metrics are those of Lambda's REPORT line, in the text and in the JSON format of logs.
// [Executor.InvokeEvent] hands a job to Lambda's queue instead.
//
// # Permissions
//
// This is the policy that deploying, invoking and removing needs, with what is written in capitals put in, and "arn:aws" as the region's partition has it. From "Roles" on each
// statement is for an option: create_role (the first two), bucket or create_bucket, remove_logs, subnet_ids, layers, kms_key_arn, account_id; invoking alone takes lambda:InvokeFunction and,
// for payloads in the compact form and for functions that Lambda has to wake, lambda:GetFunction and lambda:ListTags.
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
//	      "Action": ["iam:CreateRole", "iam:TagRole", "iam:GetRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies", "iam:DeleteRole"],
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
//	      "Action": ["s3:CreateBucket", "s3:PutLifecycleConfiguration", "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
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
// The last statement is for [Executor.Diagnose] alone, which goes without what it may not look at and says so.
//
// # Leaving it out
//
// A program that imports it through faas/all and is built with -tags faas_only leaves it out, unless the tag faas_aws is given too; opening it then
// is a [faas.ErrNotLinked] that says so.
package aws
