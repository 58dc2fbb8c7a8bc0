plugins {
    kotlin("jvm") version "2.0.21"
    application
}

// jvmToolchain(8) until the engine was rewritten
kotlin {
    jvmToolchain(17)
}

application {
    mainClass = "MainKt"
}
