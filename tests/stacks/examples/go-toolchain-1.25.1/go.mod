module example.com/tool

go 1.23.0

toolchain go1.25.1 // for the new garbage collector
