SECRET_KEY = "for development"
INSTALLED_APPS = ["django.contrib.staticfiles"]
