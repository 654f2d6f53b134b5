package chain

// SubmitResult encodes submitResult(service, call, output); the others likewise.
func SubmitResult(service, call uint64, output []byte) []byte               { panic("unwritten") }
func SubmitResults(service uint64, calls []uint64, outputs [][]byte) []byte { panic("unwritten") }
func ClaimRewards() []byte                                                  { panic("unwritten") }
func HeartbeatDirect(service, blueprint uint64, status uint8, metrics []byte) []byte {
	panic("unwritten")
}
func GoOffline(service uint64) []byte { panic("unwritten") }
func GoOnline(service uint64) []byte  { panic("unwritten") }
func RegisterOperator(blueprint uint64, key []byte, rpc string, inputs []byte) []byte {
	panic("unwritten")
}
