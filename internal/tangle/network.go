package tangle

// Network is a chain with published contracts.
type Network struct {
	Name     string
	ChainID  uint64
	Contract Address
	RPC      string
	// Staking and StatusRegistry are the contracts beside Contract.
	Staking, StatusRegistry Address
}

// networks is read-only.
var networks = [...]Network{
	{"Base Sepolia", 84532, known("8299d60f373f3a4a8c4878e335cb9d840e6e3730"), "https://sepolia.base.org",
		known("91b1186f4f31d6e02e481c0af29c7244a3fe417d"), known("2a7ceb96a9b18721b5bbb0022b4d358b3c50bcb2")},
	{"Tempo testnet", 42431, known("ff137b9c879c47c28ce389e84501925438ab4cda"), "https://rpc.moderato.tempo.xyz",
		known("9484d07899b98384f1d66bd5b2659f3ed346f89e"), known("aedaffd260e21b41cb9926370e32d14bef812b48")},
	{"local test network", 31337, known("0165878a594ca255338adfa4d48449f69242eb8f"), "http://127.0.0.1:8545",
		known("dc64a140aa3e981100a9beca4e685f962f0cf6c9"), known("2bdcc0de6be1f7d2ee689a0342d76f52e8efaba3")},
}

// superseded is an address on Base Sepolia that some tools still use as their default.
var superseded = known("c9b0716a187072be0f38a5d972392c6479b9cfe3")

func known(digits string) Address {
	a, err := ParseAddress(digits)
	if err != nil {
		panic(err)
	}
	return a
}

// KnownNetwork returns the network with this chain id.
func KnownNetwork(chainID uint64) (Network, bool) {
	for _, n := range networks {
		if n.ChainID == chainID {
			return n, true
		}
	}
	return Network{}, false
}

// KnownNetworks returns all known networks.
func KnownNetworks() []Network { return append([]Network(nil), networks[:]...) }
