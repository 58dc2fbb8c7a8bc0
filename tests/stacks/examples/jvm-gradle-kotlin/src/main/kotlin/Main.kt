fun main() = println("e4")
