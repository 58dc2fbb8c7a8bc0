ROUTES = ["north", "south"]
