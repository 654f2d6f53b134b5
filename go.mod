module github.com/tangle-network/blueprint-serverless

go 1.26
