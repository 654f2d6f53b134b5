package files

// carefully is 0, because Windows needs no flags.
const carefully = 0
