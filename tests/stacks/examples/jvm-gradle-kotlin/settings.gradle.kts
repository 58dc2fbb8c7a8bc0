rootProject.name = "chess"
